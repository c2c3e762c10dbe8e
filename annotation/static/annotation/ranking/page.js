/* The ranking page as its other parts see it: the slate on screen, its responses, and the words for what happens.
 *
 * The form's radios, checkboxes and text areas are the only state. What is drawn besides is drawn from them.
 */
import { readStored } from "./storage.js";

export const main = document.getElementById("main");
export const holder = document.getElementById("slate");
const announcer = document.getElementById("announcer");
const note = document.getElementById("note");
const NOTE_STAYS = 4000;
export const KEYS_SWITCH = "preferee-keys";
let noteTimer;

/* `form` is the slate on screen; `current` the position of the response that keys speak of. */
export const slate = { form: null, size: 0, kind: "", current: 0 };

export function useForm(form) {
  Object.assign(slate, { form, size: Number(form.dataset.size), kind: form.dataset.kind, current: 0 });
}

export const articles = () => [...slate.form.querySelectorAll(".response")];
export const article = (position) => articles()[position];
export const positions = () => Array.from({ length: slate.size }, (_none, i) => i);
export const letterOf = (position) => article(position).dataset.letter;
export const lettersOf = (list) => list.map(letterOf).join(", ");
export const tokenOf = (form = slate.form) => form.querySelector("[name=token]").value;
export const checkedOf = (name) => slate.form.querySelector(`input[name="${name}"]:checked`);
export const radiosOf = (name) => [...slate.form.querySelectorAll(`input[name="${name}"]`)];
export const isPractice = () => "practising" in slate.form.dataset;

/* Whether keys of a single letter or digit do something. */
export const areKeysOn = () => readStored(KEYS_SWITCH) !== "off";
export const isCombined = ({ ctrlKey, metaKey, altKey }) => ctrlKey || metaKey || altKey;

/* A key by the name under which it is looked up: Caps Lock changes nothing, Shift does. */
export const nameOfKey = ({ key, shiftKey }) => (key.length === 1 && !shiftKey ? key.toLowerCase() : key);

/* What a correction starts from: its field's first content, or the template beside it where a correction was in it. */
export function sourceOf(area) {
  const source = area.closest(".correction").querySelector("template.source");
  return source ? source.content.textContent : area.defaultValue;
}

/* The words stand in the page's data-say-… attributes, in its language; {name} is filled in. */
export function say(name, values = {}) {
  return (main.dataset[name] ?? "").replace(/\{(\w+)\}/g, (_all, key) => values[key] ?? "");
}

/* Said to a screen reader only: what can be seen has just changed where one looks. */
export function announce(...sentences) {
  announcer.textContent = "";
  requestAnimationFrame(() => { announcer.textContent = sentences.filter(Boolean).join(" "); });
}

/* Said to everyone, for a moment: why a key did nothing. */
export function remark(text) {
  clearTimeout(noteTimer);
  note.textContent = text;
  note.hidden = false;
  noteTimer = setTimeout(hideRemark, NOTE_STAYS);
  announce(text);
}

export function hideRemark() {
  note.hidden = true;
}

/* Who draws something from the form's state is told when it changes: by a person (`touched`), or as a whole. */
const drawers = [];

export function onDraw(draw) {
  drawers.push(draw);
}

export function redraw() {
  drawers.forEach((draw) => draw());
}

/* A change made here, as if it had been made by hand; the form's `change` listener does the rest. */
export function touched() {
  slate.form.dispatchEvent(new CustomEvent("touched", { bubbles: true }));
}
