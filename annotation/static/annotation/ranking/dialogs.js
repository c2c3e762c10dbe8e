/* Dialogs, which take all keys while they are open (the browser gives the focus back after them), and the small boxes
 * behind a summary.
 */
import { slate } from "./page.js";

const waiting = new Map();

export const isOpen = () => document.querySelector("dialog[open]") !== null;

/* Open a dialog and wait: resolves with the value of the button that closed it, "" for Escape and Cancel. */
export function open(id) {
  const dialog = document.getElementById(id);
  if (!dialog || dialog.open) return Promise.resolve("");
  dialog.showModal();
  return new Promise((resolve) => waiting.set(dialog, resolve));
}

/* Close a dialog with a value. What waits for it goes on at once, before another key can be pressed. */
export function finish(dialog, value) {
  const resolve = waiting.get(dialog);
  waiting.delete(dialog);
  if (dialog.open) dialog.close();
  resolve?.(value);
}

/* Every way out of a dialog ends in `finish`. A press beside one closes it like Escape, but for those in which something
 * may have been written. To be called after who may refuse a `cancel` has begun to listen for it.
 */
export function watchDialogs() {
  document.addEventListener("submit", (event) => {
    if (event.target.getAttribute("method") !== "dialog") return;
    event.preventDefault();
    finish(event.target.closest("dialog"), event.submitter?.value ?? "");
  });
  document.addEventListener("close", ({ target }) => { if (!target.open) finish(target, ""); }, true);
  document.querySelectorAll("dialog").forEach((dialog) => {
    dialog.addEventListener("cancel", (event) => { if (!event.defaultPrevented) finish(dialog, ""); });
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog && !("writing" in dialog.dataset)) finish(dialog, "");
    });
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
