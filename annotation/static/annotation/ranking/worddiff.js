/* Which words two texts do not share, by jsdiff, which is loaded when it is first needed. */
import { main } from "./page.js";

const PATIENCE = 1000;
const LITTLE = 0.25;

/* [{text, side}] with side "both", "left" or "right"; null where the texts differ too much to tell in a second. */
export async function compareWords(left, right) {
  const { diffArrays } = await import(main.dataset.jsdiff);
  const changes = diffArrays(wordsOf(left), wordsOf(right), { timeout: PATIENCE });
  if (!changes) return null;
  return changes.map(({ value, added, removed }) => ({ text: value.join(""), side: removed ? "left" : added ? "right" : "both" }));
}

/* Words, blanks and marks, each by itself; in scripts without blanks the browser knows where a word ends. */
function wordsOf(text) {
  if (typeof Intl.Segmenter !== "function") return text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? [];
  const segmenter = new Intl.Segmenter(document.documentElement.lang, { granularity: "word" });
  return Array.from(segmenter.segment(text), ({ segment }) => segment);
}

/* Where in a side's text the words stand that the other side has not, as spans; blanks between two such words belong. */
export function spansOf(changes, side) {
  const spans = [];
  let at = 0, gap = "";
  for (const change of changes) {
    if (change.side !== side && change.side !== "both") continue;
    const end = at + change.text.length;
    if (change.side === "both") gap += change.text;
    else if (spans.length && !gap.trim()) spans.at(-1).end = end;
    else spans.push({ start: at, end });
    if (change.side === side) gap = "";
    at = end;
  }
  return spans;
}

/* Whether so little is common to both that marks would cover everything. */
export function haveLittleInCommon(changes) {
  const count = (side) => changes.filter((change) => change.side === side).reduce((sum, { text }) => sum + text.trim().length, 0);
  const both = count("both");
  return both < count("left") * LITTLE && both < count("right") * LITTLE;
}
