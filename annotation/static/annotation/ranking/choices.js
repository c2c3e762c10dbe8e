/* Best of all, or best and worst: one response named for each end, the others not told apart. */
import { article, checkedOf, letterOf, positions, radiosOf, remark, say, slate } from "./page.js";

const ENDS = { best: "sayBest", worst: "sayWorst" };
const NAMES = { best: "sayIsBest", worst: "sayIsWorst" };
const ends = () => (slate.kind === "best-worst" ? ["best", "worst"] : ["best"]);
const chosen = (end) => (checkedOf(end) ? Number(checkedOf(end).value) : null);
const endOf = (position) => ends().find((end) => chosen(end) === position);

export function begin() {}

export const missing = () => (isAsked() ? positions().filter((i) => !endOf(i)) : []);
export const isAsked = () => ends().some((end) => chosen(end) === null);
export const nextAfter = () => null; // which response the second choice falls on, nobody can guess
export const best = () => (chosen("best") === null ? [] : [chosen("best")]);

/* A digit names a response: the best one, and then, where that is asked, the worst. 0 takes back what was chosen. */
export function digit(number) {
  if (number === 0) return takeBack();
  if (number > slate.size) return remark(say("sayNoResponse", { count: slate.size }));
  const open = ends().find((end) => chosen(end) === null);
  if (!open && ends().length > 1) return remark(say("sayBothChosen"));
  return choose(open ?? "best", number - 1);
}

function takeBack() {
  ends().forEach((end) => radiosOf(end).forEach((radio) => { radio.checked = false; }));
  return { said: say("sayNoneChosen"), isFirst: false };
}

function choose(end, position) {
  const other = endOf(position);
  const name = other === "best" ? "sayBestAlready" : "sayWorstAlready";
  if (other && other !== end) return remark(say(name, { letter: letterOf(position) }));
  const isFirst = chosen(end) === null;
  radiosOf(end).find((radio) => Number(radio.value) === position).checked = true;
  return { said: changed(position, end), isFirst, position };
}

/* A response cannot be both ends: what it was before is given up. */
export function changed(position, field) {
  const other = ends().find((end) => end !== field && chosen(end) === position);
  if (other) radiosOf(other).forEach((radio) => { radio.checked = false; });
  return say(ENDS[field], { letter: letterOf(position) });
}

export const positionOf = (field, value) => (field in ENDS ? Number(value) : -1);
export const focusTarget = (position) => radiosOf("best").find((radio) => Number(radio.value) === position);

export function draw() {
  positions().forEach((i) => {
    const end = endOf(i);
    article(i).dataset.tier = end ?? "";
    article(i).querySelector("[data-place]").textContent = end ? say(NAMES[end]) : "";
  });
}

export function zones() {
  const those = (end) => positions().filter((i) => endOf(i) === end);
  const zone = (end) => ({ id: end, label: say(NAMES[end]), positions: those(end) });
  return [...ends().map(zone), { id: "", label: say("sayTheRest"), positions: those(undefined), isRest: true }];
}

export function drop(position, id) {
  if (id) return { said: setEnd(position, id), isFirst: false };
  const end = endOf(position);
  if (!end) return null;
  radiosOf(end).forEach((radio) => { radio.checked = false; });
  return { said: say("sayChosenNoMore", { letter: letterOf(position) }), isFirst: false };
}

function setEnd(position, end) {
  radiosOf(end).find((radio) => Number(radio.value) === position).checked = true;
  return changed(position, end);
}
