/* What is asked of the slate on screen, whichever kind of task it is: keys and drops in, the bar and the focus out.
 *
 * A kind (tiers, choices, strength, ratings) reads and writes its own radios and says what came of it as
 * {said, isFirst, position, scale}; after a first answer the focus moves on to what is still asked.
 */
import {
  areKeysOn, article, articles, announce, letterOf, lettersOf, onDraw, positions, say, slate, touched,
} from "./page.js";
import * as choices from "./choices.js";
import * as ratings from "./ratings.js";
import * as strength from "./strength.js";
import { drawTierBar, watchDrag } from "./tierbar.js";
import * as tiers from "./tiers.js";

const KINDS = {
  ranking: tiers, pairwise: strength, "pairwise-forced": strength, best: choices, "best-worst": choices, rating: ratings,
};
const kind = () => KINDS[slate.kind];
const bar = () => slate.form.querySelector("#tierbar");

export function begin() {
  kind().begin();
  if (bar()) watchDrag(bar(), { drop: (position, id) => settle(dropped(position, id)), focus: focusResponse });
  const summary = slate.form.querySelector("#scales");
  summary?.addEventListener("click", (event) => {
    const pressed = event.target.closest("button");
    if (pressed) focusScale(article(Number(pressed.dataset.position)).querySelectorAll(".scale")[pressed.dataset.scale]);
  });
}

/* Keys ----------------------------------------------------------------------------------------------------------- */

export function digit(number) {
  const scale = ratings.scaleInFocus() ?? (slate.kind === "rating" ? ratings.scaleAt(slate.current) : null);
  settle(scale ? ratings.rate(scale, number) : kind().digit(number));
}

export const canTie = () => "tie" in kind();

export function tie() {
  settle(kind().tie());
}

export function stepRating(way) {
  const scale = ratings.scaleInFocus();
  if (scale) settle(ratings.step(scale, way));
}

/* Into the scales of the response, where there are any. */
export function focusRating() {
  if (ratings.areAsked()) focusScale(ratings.scaleAt(slate.current));
}

function dropped(position, id) {
  const outcome = kind().drop(position, slate.kind === "ranking" ? Number(id) : id);
  return outcome && { ...outcome, isFirst: false };
}

/* Tell of an answer; after a first one go on to what is still asked. */
function settle(outcome) {
  if (!outcome) return;
  touched();
  if (!outcome.isFirst) {
    announce(outcome.said);
    if (outcome.position !== undefined) focusResponse(outcome.position);
    return;
  }
  const next = moveOn(outcome);
  announce(outcome.said, next);
}

/* Returns what to say of where the focus went, nothing where it stayed. */
function moveOn({ position, scale }) {
  const from = slate.current;
  const after = kind().isAsked() && !scale ? kind().nextAfter(from) : null;
  if (after !== null && slate.kind !== "rating") {
    focusResponse(after);
    return say("sayNow", { letter: letterOf(after) });
  }
  if (scale || (!kind().isAsked() && ratings.areAsked())) {
    const next = ratings.nextAfter(scale ? ratings.positionOf(scale) : 0, scale);
    if (next) {
      focusScale(next);
      return say("sayNowScale", { letter: letterOf(slate.current), scale: next.dataset.name });
    }
  }
  if (position !== undefined) focusResponse(position);
  return "";
}

/* Focus ---------------------------------------------------------------------------------------------------------- */

/* On its answer, where keys speak of it; else on its text, since in a row of choices the arrows would choose. */
export function focusResponse(position) {
  setCurrent((position + slate.size) % slate.size);
  const answer = areKeysOn() ? kind().focusTarget(slate.current) : null;
  (answer ?? article(slate.current).querySelector(".reader")).focus({ preventScroll: true });
  bringIntoView();
}

/* The same scale of another response, where a scale has the focus. */
export function focusNeighbour(way) {
  const scale = ratings.scaleInFocus();
  const to = (slate.current + way + slate.size) % slate.size;
  if (scale) focusScale(article(to).querySelectorAll(".scale")[scale.dataset.scale]);
  else focusResponse(to);
}

function focusScale(scale) {
  setCurrent(ratings.positionOf(scale));
  ratings.focusTargetIn(scale).focus({ preventScroll: true });
  scale.scrollIntoView({ block: "nearest" });
  bringIntoView();
}

/* On a phone the responses stand in a row that is scrolled sideways. */
function bringIntoView() {
  const row = article(slate.current).parentElement;
  row.scrollTo({ left: article(slate.current).offsetLeft - row.offsetLeft, behavior: "instant" });
}

export function setCurrent(position) {
  slate.current = position;
  articles().forEach((one, i) => one.classList.toggle("current", i === position));
  const isOf = (chip) => Number(chip.dataset.position) === position;
  slate.form.querySelectorAll(".chip").forEach((chip) => chip.classList.toggle("current", isOf(chip)));
}

/* Completeness --------------------------------------------------------------------------------------------------- */

export const best = () => kind().best();

/* Positions that something is still asked of. Where all are bad, nothing need be rated or ordered; but what is ordered, is
 * ordered as a whole.
 */
export function missing() {
  const isAllBad = slate.form.querySelector("[name=all_bad]").checked;
  const unrated = ratings.areAsked() && !isAllBad ? positions().filter((i) => ratings.unratedAt(i).length) : [];
  const order = slate.kind === "rating" ? [] : kind().missing();
  const unplaced = isAllBad && order.length === slate.size ? [] : order;
  return [...new Set([...unplaced, ...unrated])].sort();
}

const reason = () => slate.form.querySelector("textarea[name=rationale]");
const fewest = () => Number(reason()?.dataset.fewest ?? 0);
const isReasonShort = () => reason() !== null && [...reason().value.trim()].length < fewest();

/* What the server would refuse this for, as sentences, where it cannot be asked. */
export function shortcomings() {
  const found = [];
  if (missing().length) found.push(say("sayMissing", { letters: lettersOf(missing()) }));
  if (isReasonShort()) found.push(say("sayReasonShort", { count: fewest() }));
  return found;
}

export function showMissing() {
  const list = missing();
  list.forEach((i) => article(i).classList.add("missing"));
  if (!list.length) return focusReason();
  const open = kind().isAsked() ? kind().missing() : [];
  if (slate.kind === "rating" || !open.length) focusScale(ratings.nextAfter(list[0]));
  else focusResponse(open.includes(slate.current) ? slate.current : open[0]);
}

function focusReason() {
  if (isReasonShort()) reason().focus();
}

/* Changes by hand, and drawing ------------------------------------------------------------------------------------ */

/* A radio was changed by mouse, finger or browser: tell of it as of a key. The focus stays where the hand is. */
export function radioChanged(input) {
  if (input.closest(".scale")) return announce(ratings.changed(input));
  const position = kind().positionOf(input.name, input.value);
  if (position >= 0) announce(kind().changed(position, input.name));
}

function draw() {
  kind().draw();
  const still = missing();
  articles().forEach((one, i) => { if (!still.includes(i)) one.classList.remove("missing"); });
  const zones = kind().zones();
  if (zones && bar()) drawTierBar(bar(), zones, letterOf, slate.current);
  const summary = slate.form.querySelector("#scales");
  if (summary) summary.replaceChildren(...ratings.summaries().map(summaryBox));
}

function summaryBox({ index, name, values, done }) {
  const box = document.createElement("div");
  box.className = `zone scale-zone${done ? "" : " bare"}`;
  const span = (className, textContent) => Object.assign(document.createElement("span"), { className, textContent });
  box.append(span("zone-label", name), span("zone-count num", `${done}/${values.length}`), ...values.map(({ position, value }) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "value num";
    Object.assign(button.dataset, { position, scale: index });
    button.textContent = say("sayValue", { letter: letterOf(position), value: value === "" ? "–" : value });
    return button;
  }));
  return box;
}

onDraw(draw);
