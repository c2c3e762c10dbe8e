/* Which words two texts do not share, by jsdiff, which is loaded when it is first needed. */
import { main } from "./page.js";

const PATIENCE = 1000;
const LITTLE = 0.25;

/* [{text, side}] with side "both", "left" or "right"; null where the texts differ too much to tell in a second. */
export async function compareWords(left, right) {
  const { diffArrays } = await import(main.dataset.jsdiff);
  const changes = diffArrays(wordsOf(left), wordsOf(right), { timeout: PATIENCE });
  if (!changes) return null;
  const sideOf = ({ added, removed }) => (removed ? "left" : added ? "right" : "both");
  return changes.map((change) => ({ text: change.value.join(""), side: sideOf(change) }));
}

/* Words, blanks and marks, each by itself; in scripts without blanks the browser knows where a word ends. */
function wordsOf(text) {
  if (typeof Intl.Segmenter !== "function") return text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? [];
  const segmenter = new Intl.Segmenter(document.documentElement.lang, { granularity: "word" });
  return Array.from(segmenter.segment(text), ({ segment }) => segment);
}

/* Where in a side's text the words stand that the other side has not, as spans; blanks between two such words belong,
 * blanks around them do not.
 */
export function spansOf(changes, side) {
  const spans = [];
  let at = 0, gap = "";
  for (const { text, side: where } of changes) {
    if (where !== side && where !== "both") continue;
    const isOwn = where === side && text.trim() !== "";
    const [start, end] = [at + text.length - text.trimStart().length, at + text.trimEnd().length];
    if (isOwn && spans.length && !gap.trim()) spans.at(-1).end = end;
    else if (isOwn) spans.push({ start, end });
    gap = isOwn ? "" : gap + text;
    at += text.length;
  }
  return spans;
}

/* Whether so little is common to both that marks would cover everything. */
export function haveLittleInCommon(changes) {
  const sums = { left: 0, right: 0, both: 0 };
  for (const { text, side } of changes) sums[side] += text.trim().length;
  return sums.both < sums.left * LITTLE && sums.both < sums.right * LITTLE;
}
