/* Two responses: one of the points between "A is much better" and "B is much better". */
import { article, checkedOf, positions, radiosOf, remark, say, slate } from "./page.js";

const points = () => radiosOf("strength");
const chosen = () => checkedOf("strength");

export function begin() {}

export const missing = () => (isAsked() ? positions() : []);
export const isAsked = () => !chosen();
export const nextAfter = () => null;

/* The side that is better: both where they are equal, none before a point is chosen. */
export function best() {
  const side = sideOf(chosen()?.value);
  return side === null ? [] : side === "both" ? positions() : [side];
}

/* "-2" and "a2" speak for A, "2" and "b2" for B, "0" for neither. */
function sideOf(value) {
  if (value === undefined) return null;
  if (value === "0") return "both";
  return /^[-a]/.test(value) ? 0 : 1;
}

export function digit(number) {
  if (number === 0) return takeBack();
  if (number > points().length) return remark(say("sayNoPoint", { count: points().length }));
  const isFirst = isAsked();
  points()[number - 1].checked = true;
  return { said: changed(), isFirst };
}

function takeBack() {
  points().forEach((radio) => { radio.checked = false; });
  return { said: say("sayNoneChosen"), isFirst: false };
}

export const changed = () => chosen()?.dataset.label ?? "";
export const positionOf = (field) => (field === "strength" ? slate.current : -1);
export const focusTarget = (position) => article(position).querySelector(".reader");

export function draw() {
  positions().forEach((i) => { article(i).dataset.tier = best().includes(i) ? "1" : ""; });
  slate.form.querySelector("[data-says]").textContent = changed() || say("sayNoneChosen");
}

export const zones = () => null; // the strip of points is itself the bar
