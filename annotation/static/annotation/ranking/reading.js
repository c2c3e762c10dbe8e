/* How responses and prompt are read: formulas and copy buttons, one response alone, the prompt folded away. */
import { announce, article, articles, letterOf, main, say, slate } from "./page.js";

const tools = () => import(main.dataset.math);

/* Formulas and copy buttons of a piece of a page, before it is shown where possible. What that takes is loaded only
 * where there is something of the kind. Says whether anything was changed.
 */
export async function enrich(root) {
  if (!root.querySelector(".math, pre.code")) return false;
  const { renderMath, addCopyButtons } = await tools();
  addCopyButtons(root, { copy: say("sayCopy"), copied: say("sayCopied") });
  await renderMath(root);
  return true;
}

/* What is wider than its column gets scrolled by keyboard too; to be called once it is shown. */
export async function makeReachable(root) {
  if (!root.querySelector(".table, pre.code, .math.block")) return;
  const { makeScrollable } = await tools();
  makeScrollable(root, { table: say("sayTable"), code: say("sayCode"), formula: say("sayFormula") });
}

export const isAlone = () => slate.form.classList.contains("alone");

export function toggleAlone(on = !isAlone()) {
  if (on === isAlone()) return;
  slate.form.classList.toggle("alone", on);
  announce(on ? say("sayAlone", { letter: letterOf(slate.current) }) : say("sayTogether"));
}

export function scrollCurrent(way) {
  const reader = article(slate.current).querySelector(".reader");
  reader.scrollBy({ top: way * Math.max(40, reader.clientHeight * 0.3), behavior: "instant" });
}

const prompt = () => slate.form.querySelector(".prompt");

export function togglePrompt(on = !prompt().classList.contains("folded")) {
  prompt().classList.toggle("folded", on);
  prompt().querySelector("[data-act=fold]")?.setAttribute("aria-expanded", String(!on));
  if (on) prompt().querySelector(".turns").scrollTop = 0;
}

/* A box in which text goes on below its edge says so, until its end is reached. */
function watchMore(box, scroller) {
  const draw = () => box.classList.toggle("more", scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop > 8);
  const sizes = new ResizeObserver(draw);
  [scroller, ...scroller.children].forEach((one) => sizes.observe(one));
  scroller.addEventListener("scroll", draw, { passive: true });
}

/* The prompt gives its room to the responses once one of them is read on; it comes back with p or its button. */
export function watchReading() {
  let hasFolded = false;
  watchMore(prompt(), prompt().querySelector(".turns"));
  articles().forEach((one) => {
    const reader = one.querySelector(".reader");
    watchMore(one, reader);
    reader.addEventListener("scroll", () => {
      if (hasFolded || reader.scrollTop <= 40) return;
      hasFolded = true;
      togglePrompt(true);
    }, { passive: true });
  });
}

/* On a phone the response that was swiped to is the one that the bar speaks of. */
export function watchSwipe(setCurrent) {
  const row = slate.form.querySelector(".responses");
  row.addEventListener("scroll", () => {
    const at = Math.round(row.scrollLeft / row.clientWidth);
    const hasSettled = row.scrollWidth > row.clientWidth && Math.abs(row.scrollLeft - at * row.clientWidth) < 4;
    if (hasSettled && at !== slate.current) setCurrent(at);
  }, { passive: true });
}
