/* A page on which rendered Markdown is read, not ranked: formulas typeset, code copied, wide parts scrolled by keyboard.
 * The labels, and the addresses of KaTeX that math.js wants, stand on one element of the page (see _markdown.html). */
import { addCopyButtons, makeScrollable, renderMath } from "./math.js";

const labels = document.querySelector("[data-katex-js]").dataset;
addCopyButtons(document, labels);
await renderMath(document);
makeScrollable(document, labels);
