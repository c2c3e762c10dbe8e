/* The text of a rendered response as the server counts it, and back: what of the page an offset stands for.
 *
 * It is what the text nodes hold, one after another, without what the page itself put in ([data-ui]); a formula counts
 * as its source (data-tex), whatever KaTeX has made of it. Offsets that leave this file count code points, as Python
 * does; inside it they count UTF-16 units, as the browser does.
 */
export const textOf = (root) => piecesOf(root).map((piece) => piece.text).join("");

/* [{node, text, start, isWhole}]: text nodes, and formulas as wholes. */
function piecesOf(root) {
  const pieces = [];
  let start = 0;
  const add = (node, text, isWhole) => {
    pieces.push({ node, text, start, isWhole });
    start += text.length;
  };
  const visit = (node) => {
    if (node.nodeType === Node.TEXT_NODE) add(node, node.data, false);
    else if (node.nodeType !== Node.ELEMENT_NODE || "ui" in node.dataset) return;
    else if ("tex" in node.dataset) add(node, node.dataset.tex, true);
    else node.childNodes.forEach(visit);
  };
  root.childNodes.forEach(visit);
  return pieces;
}

/* The passage of `root` that a selection covers, as {start, end, quote}, without blanks at its ends; null where none. */
export function passageOf(root, range) {
  const pieces = piecesOf(root);
  const whole = pieces.map((piece) => piece.text).join("");
  const covered = pieces.filter((piece) => range.intersectsNode(piece.node));
  if (!covered.length) return null;
  const [first, last] = [covered[0], covered.at(-1)];
  let start = first.start + (first.node === range.startContainer ? range.startOffset : 0);
  let end = last.node === range.endContainer && !last.isWhole ? last.start + range.endOffset : last.start + last.text.length;
  while (start < end && /\s/.test(whole[start])) start += 1;
  while (end > start && /\s/.test(whole[end - 1])) end -= 1;
  if (start === end) return null;
  const count = (to) => [...whole.slice(0, to)].length;
  return { start: count(start), end: count(end), quote: whole.slice(start, end) };
}

/* Ranges of the page for passages counted in code points; a formula is taken as a whole. */
export function rangesOf(root, passages) {
  const pieces = piecesOf(root);
  const units = unitsOf(pieces.map((piece) => piece.text).join(""));
  return passages.flatMap(({ start, end }) => rangeOver(pieces, units(start), units(end)) ?? []);
}

/* From code points to UTF-16 units; a text without pairs needs no counting. */
function unitsOf(text) {
  if (!/[\ud800-\udfff]/.test(text)) return (points) => points;
  const starts = [0];
  for (const character of text) starts.push(starts.at(-1) + character.length);
  return (points) => starts[Math.min(points, starts.length - 1)];
}

function rangeOver(pieces, start, end) {
  const covered = pieces.filter((piece) => piece.start < end && piece.start + piece.text.length > start);
  if (!covered.length) return null;
  const [first, last] = [covered[0], covered.at(-1)];
  const range = new Range();
  if (first.isWhole) range.setStartBefore(first.node);
  else range.setStart(first.node, start - first.start);
  if (last.isWhole) range.setEndAfter(last.node);
  else range.setEnd(last.node, end - last.start);
  return range;
}

/* Wrap the spans [start, end) (UTF-16 units, in order) of a copy of a response in <mark>; a formula is marked as a whole. */
export function markSpans(root, spans) {
  let next = 0;
  for (const { node, text, start, isWhole } of piecesOf(root)) {
    while (next < spans.length && spans[next].end <= start) next += 1;
    const here = [];
    for (let i = next; i < spans.length && spans[i].start < start + text.length; i += 1) here.push(spans[i]);
    if (!here.length) continue;
    if (isWhole) node.classList.add("marked");
    else wrap(node, here.map((span) => [Math.max(span.start - start, 0), Math.min(span.end - start, text.length)]));
  }
}

function wrap(node, spans) {
  const text = node.data;
  const parts = [];
  let at = 0;
  for (const [start, end] of spans) {
    const words = text.slice(start, end);
    parts.push(text.slice(at, start));
    parts.push(words.trim() ? Object.assign(document.createElement("mark"), { textContent: words }) : words);
    at = end;
  }
  node.replaceWith(...parts, text.slice(at));
}
