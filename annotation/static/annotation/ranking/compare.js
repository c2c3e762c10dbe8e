/* Two responses side by side, rendered as they are, with the words marked that only one of them has. */
import { article, letterOf, lettersOf, positions, say, slate } from "./page.js";
import { open } from "./dialogs.js";
import { markSpans, textOf } from "./text.js";
import { compareWords, haveLittleInCommon, spansOf } from "./worddiff.js";

const dialog = () => document.getElementById("compare");
const mdOf = (position) => article(position).querySelector(".md");
let left = 0, right = 1;

export async function compareCurrent() {
  left = slate.current;
  right = (left + 1) % slate.size;
  const closed = open("compare");
  await show();
  await closed;
}

async function show() {
  const [a, b] = [left, right];
  const copies = [copyOf(a), copyOf(b)];
  dialog().querySelectorAll("[data-side]").forEach((side, i) => {
    side.querySelector("h3").textContent = letterOf([a, b][i]);
    side.querySelector(".md").replaceWith(copies[i]);
  });
  drawChoice();
  const scroller = dialog().querySelector(".compared");
  scroller.scrollTop = 0;
  scroller.focus();
  tell("");
  const changes = await compareWords(textOf(mdOf(a)), textOf(mdOf(b))).catch(() => null);
  if (a !== left || b !== right) return; // chosen anew meanwhile
  if (!changes || haveLittleInCommon(changes)) return tell(say("sayTooDifferent"));
  if (changes.every(({ side }) => side === "both")) return tell(say("saySameText"));
  markSpans(copies[0], spansOf(changes, "left"));
  markSpans(copies[1], spansOf(changes, "right"));
  tell(say("sayMarkedWords"));
}

function copyOf(position) {
  const copy = mdOf(position).cloneNode(true);
  copy.querySelectorAll("[data-ui]").forEach((extra) => extra.remove());
  copy.querySelectorAll("[id]").forEach((named) => named.removeAttribute("id"));
  return copy;
}

function tell(text) {
  dialog().querySelector("[data-told]").textContent = text;
}

/* The letters of the others, to choose from; the arrows do the same. */
function drawChoice() {
  const others = positions().filter((i) => i !== left);
  const buttons = others.map((i) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "chip", textContent: letterOf(i) });
    button.setAttribute("aria-pressed", String(i === right));
    button.addEventListener("click", () => choose(i));
    return button;
  });
  dialog().querySelector("[data-others]").replaceChildren(...(others.length > 1 ? buttons : []));
  dialog().querySelector("h2").textContent = say("sayComparing", { letter: letterOf(left), others: lettersOf([right]) });
}

function choose(position) {
  right = position;
  return show();
}

export function watchCompare() {
  dialog()?.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way) return;
    event.preventDefault();
    const others = positions().filter((i) => i !== left);
    choose(others[(others.indexOf(right) + way + others.length) % others.length]);
  });
}
