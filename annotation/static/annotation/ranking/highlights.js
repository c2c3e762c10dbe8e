/* Remarks on passages: selected text of a response with a comment. The passages are painted by the browser's highlight
 * registry, so that the response itself stays untouched; where there is none, the list under the response says it all.
 */
import { announce, article, articles, letterOf, onDraw, positions, remark, say, slate, touched } from "./page.js";
import { finish, open } from "./dialogs.js";
import { passageOf, rangesOf } from "./text.js";

const SELECTION_OUTLIVES_TAP = 1000;
const MOST = 100;
const field = () => slate.form.querySelector("[name=highlights]");
const mdOf = (position) => article(position).querySelector(".md");
let selected = null, selectedUntil = 0;

export const isAsked = () => field() !== null;

function read() {
  try {
    return JSON.parse(field().value || "[]");
  } catch {
    return [];
  }
}

function write(list) {
  field().value = list.length ? JSON.stringify(list) : "";
  touched();
}

/* A tap on the button takes the selection away first, so that it is remembered for a moment. */
export function watchSelection() {
  document.querySelector("#highlighter textarea")?.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    finish(document.getElementById("highlighter"), "add");
  });
  document.addEventListener("selectionchange", () => {
    const found = isAsked() ? selectedPassage() : null;
    if (found) [selected, selectedUntil] = [found, Infinity];
    else if (selected && selectedUntil === Infinity) selectedUntil = performance.now() + SELECTION_OUTLIVES_TAP;
  });
}

function selectedPassage() {
  const selection = getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return null;
  const range = selection.getRangeAt(0);
  const within = positions().filter((i) => range.intersectsNode(mdOf(i)));
  const position = within.includes(slate.current) ? slate.current : within[0];
  if (position === undefined) return null;
  const passage = passageOf(mdOf(position), range);
  return passage && { position, ...passage };
}

/* Ask for a comment on what is selected, and keep both. */
export async function addHighlight() {
  if (!isAsked()) return;
  const passage = selectedPassage() ?? (performance.now() < selectedUntil ? selected : null);
  if (!passage) return remark(say("saySelectFirst"));
  if (read().length >= MOST) return remark(say("sayNoMoreHighlights", { count: MOST }));
  selected = null;
  const dialog = document.getElementById("highlighter");
  const comment = dialog.querySelector("textarea");
  dialog.querySelector("blockquote").textContent = passage.quote;
  comment.value = "";
  const range = getSelection().rangeCount ? getSelection().getRangeAt(0).cloneRange() : null;
  if ((await open("highlighter")) !== "add") return range && select(range); // the comment's field had taken it
  write([...read(), { ...passage, comment: comment.value.trim() }]);
  getSelection().removeAllRanges();
  announce(say("sayHighlighted", { letter: letterOf(passage.position) }));
}

function select(range) {
  getSelection().removeAllRanges();
  getSelection().addRange(range);
}

function remove(index) {
  const list = read();
  const [gone] = list.splice(index, 1);
  write(list);
  announce(say("sayHighlightRemoved", { letter: letterOf(gone.position) }));
  article(gone.position).querySelector(".reader").focus({ preventScroll: true });
}

function draw() {
  if (!isAsked()) return;
  const list = read().map((highlight, index) => ({ ...highlight, index }));
  positions().forEach((i) => {
    const own = list.filter(({ position }) => position === i);
    article(i).querySelector("[data-marks]").replaceChildren(...own.map(item));
    article(i).querySelector("[data-act=highlight] .count").textContent = own.length || "";
  });
  paint(list);
}

export function paint(list = read()) {
  if (!isAsked() || !CSS.highlights) return;
  const ranges = articles().flatMap((_one, i) => rangesOf(mdOf(i), list.filter(({ position }) => position === i)));
  CSS.highlights.set("remarks", new Highlight(...ranges));
}

function item({ quote, comment, index }) {
  const line = document.createElement("li");
  const make = (tag, values) => Object.assign(document.createElement(tag), values);
  const button = make("button", { type: "button", className: "quiet", textContent: "×" });
  button.setAttribute("aria-label", say("sayRemoveHighlight", { quote }));
  button.title = say("sayRemove");
  button.addEventListener("click", () => remove(index));
  line.append(make("q", { textContent: quote, dir: "auto" }));
  if (comment) line.append(make("span", { className: "comment", textContent: comment, dir: "auto" }));
  line.append(button);
  return line;
}

onDraw(draw);
