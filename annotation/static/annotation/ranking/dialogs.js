/* Dialogs, which take all keys while they are open (the browser gives the focus back after them), and the small boxes behind a summary. */
import { slate } from "./page.js";

export const isOpen = () => document.querySelector("dialog[open]") !== null;

/* Open a dialog and wait: resolves with the value of the button that closed it, "" for Escape and Cancel. */
export function open(id) {
  const dialog = document.getElementById(id);
  if (!dialog || dialog.open) return Promise.resolve("");
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true }));
}

/* A press beside a dialog closes it like Escape, but for those in which something may have been written. */
export function closeByPressBeside() {
  document.querySelectorAll("dialog:not([data-writing])").forEach((dialog) => {
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(""); });
  });
}

/* Boxes: <details class="box">. One at a time; a press elsewhere closes it. */
const boxes = () => [...slate.form.querySelectorAll("details.box")];
export const boxOf = (element) => element.closest("details.box");

export function openBox(box, first) {
  boxes().forEach((other) => { other.open = other === box; });
  (first ?? box.querySelector(".pop input, .pop textarea, .pop button"))?.focus();
}

export function closeBoxes() {
  const open = boxes().filter((box) => box.open);
  open.forEach((box) => { box.open = false; });
  return open.length > 0;
}

export function watchBoxes() {
  document.addEventListener("pointerdown", (event) => {
    const inside = boxOf(event.target);
    boxes().forEach((box) => { if (box !== inside) box.open = false; });
  });
}
