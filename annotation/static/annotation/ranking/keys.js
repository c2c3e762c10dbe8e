/* Keys. Each does what a button or a control on the page does too. None fires in a text field, none while a dialog is
 * open, none is Backspace; held down, only the arrows go on. Keys of a single letter or digit can be switched off, for who
 * dictates or types by other means: the arrows, Enter and Escape stay, and in a row of choices the arrows then choose.
 */
import { canTie, digit, focusNeighbour, focusRating, focusResponse, stepRating, tie } from "./answers.js";
import { announce, areKeysOn, isCombined, KEYS_SWITCH, nameOfKey, say, slate, touched } from "./page.js";
import { compareCurrent } from "./compare.js";
import { boxOf, closeBoxes, finish, isOpen, open, openBox } from "./dialogs.js";
import { editCurrent } from "./editor.js";
import { openFlags, toggleFlag } from "./flags.js";
import { addHighlight } from "./highlights.js";
import { enrich, scrollCurrent, toggleAlone, togglePrompt } from "./reading.js";
import { skip, submit, undo } from "./sending.js";
import { store } from "./storage.js";
import { openThread, sendMessage } from "./thread.js";

const WAYS = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 };
let acted = null;

function openSkip() {
  const box = slate.form.querySelector("#skip");
  if (box) openBox(box);
}

function toggleAllBad() {
  const box = slate.form.querySelector("[name=all_bad]");
  box.checked = !box.checked;
  announce(say(box.checked ? "sayAllBad" : "sayNotAllBad"));
  touched();
}

function openGuidelines() {
  const drawer = document.getElementById("guidelines");
  if (!drawer) return;
  open("guidelines");
  enrich(drawer);
}

/* What the buttons with data-act do, by name; a key is one more way to press them. */
const ACTS = {
  tie, flag: openFlags, edit: editCurrent, highlight: addHighlight, compare: compareCurrent, alone: () => toggleAlone(),
  fold: () => togglePrompt(), skip: openSkip, message: openThread, undo,
  previous: () => focusNeighbour(-1), next: () => focusNeighbour(1), guidelines: openGuidelines, keys: () => open("keys"),
};

const KEYS = {
  "=": () => { if (canTie()) tie(); },
  ArrowLeft: ACTS.previous,
  ArrowRight: ACTS.next,
  ArrowUp: () => scrollCurrent(-1),
  ArrowDown: () => scrollCurrent(1),
  Escape: leave,
  x: toggleAllBad,
  s: ACTS.skip,
  f: ACTS.flag,
  e: ACTS.edit,
  h: ACTS.highlight,
  c: ACTS.compare,
  m: ACTS.message,
  r: focusRating,
  u: undo,
  g: ACTS.guidelines,
  p: ACTS.fold,
  "?": ACTS.keys,
};

/* Out of what is open, one thing at a time, and back to the response. */
function leave() {
  const box = boxOf(document.activeElement);
  if (!closeBoxes() && !document.activeElement.closest(".scale")) toggleAlone(false);
  if (box || document.activeElement.closest(".scale")) focusResponse(slate.current);
}

const isTextField = (element) => element.matches("textarea, select, input:not([type=radio]):not([type=checkbox])");
const actsOnEnter = (element) => element.matches("a, button, summary");
const isArrow = (key) => key.startsWith("Arrow");
const wouldChange = (event) => event.key === "Enter" || isArrow(event.key) || (event.key.length === 1 && !isCombined(event));

function onKey(event) {
  if (isOpen() || event.isComposing || event.defaultPrevented) return;
  const [key, { target }] = [nameOfKey(event), event];
  if (slate.form.hasAttribute("aria-busy")) return wouldChange(event) ? event.preventDefault() : null;
  const isInTalk = target.closest(".talk");
  if (key === "Enter" && (event.ctrlKey || event.metaKey)) return handled(event, isInTalk ? sendMessage : submit);
  if (isCombined(event)) return;
  if (isTextField(target)) return onTextKey(event);
  if (key === "Escape") return handled(event, leave);
  if (key === "Enter" && !actsOnEnter(target)) return handled(event, boxOf(target) ? leave : ACTS.alone);
  if (!areKeysOn() && (!isArrow(key) || target.closest("fieldset, .scale"))) return; // there the arrows choose
  if (boxOf(target)) return onBoxKey(event);
  if (isArrow(key) && event.shiftKey && target.closest(".scale")) return handled(event, () => stepRating(WAYS[key]));
  if (isArrow(key) && target.closest(".prompt, .strip")) return; // these scroll and choose by themselves
  if (/^[0-9]$/.test(key)) return handled(event, () => digit(Number(key)));
  if (Object.hasOwn(KEYS, key)) handled(event, KEYS[key]);
}

/* In a text field keys are text; only Escape leaves it, and Enter in the skip reason skips instead of submitting. */
function onTextKey(event) {
  if (event.key === "Escape") return handled(event, () => { closeBoxes(); focusResponse(slate.current); });
  if (event.key === "Enter" && event.target.id === "skip-reason") handled(event, skip);
}

/* In the box of flags digits are flags, and f closes it again. */
function onBoxKey(event) {
  const box = boxOf(event.target);
  if (!box.matches(".flags")) return;
  if (/^[1-9]$/.test(event.key)) handled(event, () => toggleFlag(box, Number(event.key)));
  if (nameOfKey(event) === "f") handled(event, leave);
}

function handled(event, act) {
  event.preventDefault();
  if (event.repeat && !isArrow(event.key)) return;
  acted = event.key;
  act();
}

/* A key that is held down after it has acted does nothing more, wherever it has led: no letters in a field it opened. */
function onRepeat(event) {
  if (!event.repeat || event.key !== acted || isArrow(event.key)) return;
  event.preventDefault();
  event.stopPropagation();
}

/* What a key has opened, it closes. */
function closeBy(key, id) {
  const dialog = document.getElementById(id);
  dialog?.addEventListener("keydown", (event) => {
    if (nameOfKey(event) !== key || isCombined(event) || !areKeysOn()) return;
    event.preventDefault();
    finish(dialog, "");
  });
}

function onPress(event) {
  const button = event.target.closest("[data-act]");
  if (!button || (button.matches("a") && (event.ctrlKey || event.metaKey))) return;
  event.preventDefault();
  const one = button.closest(".response");
  if (one && Number(one.dataset.position) !== slate.current) focusResponse(Number(one.dataset.position));
  ACTS[button.dataset.act]();
}

export function watchKeys() {
  document.addEventListener("keydown", onRepeat, { capture: true });
  document.addEventListener("keydown", onKey);
  document.addEventListener("keyup", () => { acted = null; });
  closeBy("g", "guidelines");
  closeBy("?", "keys");
  closeBy("c", "compare");
  document.addEventListener("click", onPress);
  // A press on the button must not take the selection away that it is about.
  document.addEventListener("pointerdown", (event) => {
    if (event.target.closest("[data-act=highlight]")) event.preventDefault();
  });
  const choice = document.getElementById("keys-on");
  choice.checked = areKeysOn();
  document.documentElement.classList.toggle("keys-off", !areKeysOn());
  choice.addEventListener("change", () => {
    store(KEYS_SWITCH, choice.checked ? "on" : "off");
    document.documentElement.classList.toggle("keys-off", !choice.checked);
  });
}
