/* Ratings on named scales, asked by themselves or beside any other kind: a point of each scale for each response. */
import { article, checkedOf, letterOf, positions, remark, say, slate } from "./page.js";

const scalesOf = (position) => [...article(position).querySelectorAll(".scale")];
const radiosIn = (scale) => [...scale.querySelectorAll("input")];
const chosenIn = (scale) => radiosIn(scale).find((radio) => radio.checked);
const nameOf = (scale) => scale.dataset.name;

export const areAsked = () => scalesOf(0).length > 0;
export const unratedAt = (position) => scalesOf(position).filter((scale) => !chosenIn(scale));
export const scaleInFocus = () => document.activeElement?.closest?.("#ranking .scale") ?? null;

/* The scale that a digit speaks of where none has the focus: the first without a point, else the first. */
export const scaleAt = (position) => unratedAt(position)[0] ?? scalesOf(position)[0];

/* The scale to go on with: the next one of this response, then those of the responses after it. */
export function nextAfter(position, scale = null) {
  const order = positions().map((i) => (position + i) % slate.size).flatMap(scalesOf);
  const later = scale ? order.slice(order.indexOf(scale) + 1).concat(order) : order;
  return later.find((other) => other !== scale && !chosenIn(other)) ?? null;
}

/* A digit is the point of that number; 0 is ten where a scale goes from 1 to 10, and clears where it means nothing. */
export function rate(scale, number) {
  const radios = radiosIn(scale);
  const values = radios.map((radio) => Number(radio.value));
  const wanted = number === 0 && !values.includes(0) && values.includes(10) ? 10 : number;
  if (wanted === 0 && !values.includes(0)) return clear(scale);
  if (!values.includes(wanted)) return remark(say("sayNoRating", { scale: nameOf(scale), low: values[0], high: values.at(-1) }));
  return choose(scale, radios[values.indexOf(wanted)]);
}

function choose(scale, radio) {
  const isFirst = !chosenIn(scale);
  radio.checked = true;
  return { said: changed(radio), isFirst, scale };
}

function clear(scale) {
  radiosIn(scale).forEach((radio) => { radio.checked = false; });
  return { said: say("sayUnrated", { letter: letterOf(positionOf(scale)), scale: nameOf(scale) }), isFirst: false, scale };
}

/* One point up or down, for what no digit reaches. */
export function step(scale, way) {
  const radios = radiosIn(scale);
  const at = radios.findIndex((radio) => radio.checked);
  const to = at < 0 ? 0 : Math.min(Math.max(at + way, 0), radios.length - 1);
  const outcome = choose(scale, radios[to]);
  radios[to].focus();
  return { ...outcome, isFirst: false };
}

export function changed(radio) {
  const scale = radio.closest(".scale");
  const anchor = radio.dataset.anchor;
  const values = { letter: letterOf(positionOf(scale)), scale: nameOf(scale), value: radio.value, anchor };
  return say(anchor ? "sayRatedAs" : "sayRated", values);
}

export const positionOf = (element) => Number(element.closest(".response").dataset.position);
export const focusTargetIn = (scale) => chosenIn(scale) ?? radiosIn(scale)[0];

/* As a kind of its own, its questions are the scales themselves. */
export function begin() {}
export const missing = () => positions().filter((i) => unratedAt(i).length);
export const isAsked = () => missing().length > 0;
export const best = () => null; // ratings name no best response
export const focusTarget = (position) => focusTargetIn(scaleAt(position));
export const zones = () => null;
export function draw() {}

/* Each scale of the bar: how many responses have a point, and which. */
export function summaries() {
  return scalesOf(0).map((scale, index) => {
    const values = positions().map((i) => ({ position: i, value: checkedOf(scalesOf(i)[index].dataset.field)?.value ?? "" }));
    return { index, name: nameOf(scale), values, done: values.filter(({ value }) => value !== "").length };
  });
}
