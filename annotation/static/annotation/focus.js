/* The one next action has the focus from the start, without scrolling to it past what is to be read before. While it is
 * out of sight, the space bar scrolls as it does elsewhere instead of pressing it.
 */
const next = document.querySelector("[data-next-action]");
next?.focus({ preventScroll: true });

function isBelow() {
  return next.getBoundingClientRect().top >= innerHeight;
}

next?.addEventListener("keydown", (event) => {
  if (event.key !== " " || !isBelow()) return;
  event.preventDefault();
  scrollBy({ top: innerHeight * 0.85 });
  addEventListener("keyup", (up) => up.preventDefault(), { capture: true, once: true });
});
