/* Flags of a response: a box of checkboxes in its header, and what is flagged under its text. */
import { announce, article, onDraw, positions, say, slate, touched } from "./page.js";
import { closeBoxes, openBox } from "./dialogs.js";

const boxAt = (position) => article(position).querySelector(".flags");
const checksAt = (position) => [...article(position).querySelectorAll(".flags input")];
const labelOf = (check) => check.dataset.label;

export function openFlags() {
  const box = boxAt(slate.current);
  if (!box) return;
  if (box.open) closeBoxes();
  else openBox(box);
}

/* The nth flag of the box that has the focus. */
export function toggleFlag(box, number) {
  const check = box.querySelectorAll("input")[number - 1];
  if (!check) return;
  check.checked = !check.checked;
  check.focus();
  tell(check);
  touched();
}

export function tell(check) {
  const letter = check.closest(".response").dataset.letter;
  announce(say(check.checked ? "sayFlagged" : "sayFlagRemoved", { letter, flag: labelOf(check) }));
}

function draw() {
  positions().forEach((i) => {
    const given = checksAt(i).filter((check) => check.checked).map(labelOf);
    const count = article(i).querySelector(".flags .count");
    if (count) count.textContent = given.length || "";
    article(i).querySelector("[data-flags]").replaceChildren(...given.map(tag));
  });
}

function tag(text) {
  return Object.assign(document.createElement("span"), { className: "tag", textContent: text });
}

onDraw(draw);

