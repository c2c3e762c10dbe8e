/* Corrections: a response's source in a dialog, beside it a preview and what has been changed. The form's own text area
 * (all there is without JavaScript) holds what is sent; until "Keep" nothing of it changes. What is written meanwhile is
 * kept in this browser, and is there again when the editor is opened again.
 */
import {
  announce, article, letterOf, lettersOf, main, onDraw, positions, remark, say, slate, sourceOf, tokenOf, touched,
} from "./page.js";
import { best } from "./answers.js";
import { finish, open } from "./dialogs.js";
import { forgetText, keepText, keptText } from "./drafts.js";
import { enrich } from "./reading.js";
import { post } from "./server.js";
import { compareWords } from "./worddiff.js";

const dialog = () => document.getElementById("editor");
const text = () => dialog().querySelector("textarea");
const fieldAt = (position) => article(position).querySelector(".correction textarea");
const sourceAt = (position) => sourceOf(fieldAt(position));
const isChanged = (position) => fieldAt(position).value !== sourceAt(position);
const nameOf = (position) => `correction-${position}`;
const begunAt = (position) => keptText(tokenOf(), nameOf(position));
let edited = 0, editedToken = "", warned = "";

export async function editCurrent() {
  if (!fieldAt(slate.current)) return;
  const top = best();
  const isBarred = slate.form.dataset.corrections === "best" && top !== null && !top.includes(slate.current);
  if (isBarred && !isChanged(slate.current)) return remark(say("sayCorrectBest"));
  [edited, editedToken] = [slate.current, tokenOf()];
  const begun = begunAt(edited);
  text().value = begun || fieldAt(edited).value;
  dialog().querySelector("[data-letter]").textContent = letterOf(edited);
  dialog().querySelector("[data-masks]").hidden = !sourceAt(edited).includes("⟦");
  showPane("text");
  dialog().querySelector("[data-begun]").hidden = !begun;
  const closed = open("editor");
  text().focus();
  text().setSelectionRange(0, 0);
  text().scrollTop = 0;
  const answer = await closed;
  if (editedToken !== tokenOf()) return; // its slate was sent and gone meanwhile; the text stays kept
  forgetText(editedToken, nameOf(edited));
  if (answer === "keep") keep(text().value);
  if (answer === "restore") keep(sourceAt(edited));
}

function keep(value) {
  fieldAt(edited).value = value;
  touched();
  announce(say(isChanged(edited) ? "sayCorrected" : "sayNotCorrected", { letter: letterOf(edited) }));
}

/* Neither Escape nor Cancel throws away what was written: the first one says so, the second one does. */
function warn(words) {
  warned = words;
  dialog().querySelector("[data-warning]").textContent = words && say(words);
}

/* Stop what would close the editor, where something would go with it and that was not said yet. */
function holdBack(event, words) {
  if (warned || text().value === fieldAt(edited).value) return;
  event.preventDefault();
  warn(words);
}

/* The letters of responses whose correction was begun and not kept, "" where there are none. */
export function lettersBegun() {
  const begun = dialog() ? positions().filter((i) => fieldAt(i) && begunAt(i)) : [];
  return begun.length ? lettersOf(begun) : "";
}

/* After a reload. */
export function tellOfBegun() {
  const letters = lettersBegun();
  if (letters) remark(say("sayCorrectionBegun", { letters }));
}

const PANES = { preview: showPreview, changes: showChanges };

function showPane(name) {
  warn("");
  dialog().querySelectorAll("[role=tab]").forEach((tab) => {
    const isShown = tab.dataset.pane === name;
    tab.setAttribute("aria-selected", String(isShown));
    tab.tabIndex = isShown ? 0 : -1;
    document.getElementById(tab.getAttribute("aria-controls")).hidden = !isShown;
  });
  return PANES[name]?.(document.getElementById(`editor-${name}`));
}

async function showPreview(pane) {
  const answer = await post(main.dataset.preview, { text: text().value }).catch(() => null);
  if (!answer?.ok || answer.redirected) return pane.replaceChildren(say("sayNoPreview"));
  pane.innerHTML = await answer.text();
  enrich(pane);
}

async function showChanges(pane) {
  if (text().value === sourceAt(edited)) return pane.replaceChildren(say("sayNoChanges"));
  const changes = await compareWords(sourceAt(edited), text().value);
  if (!changes) return pane.replaceChildren(say("sayTooDifferent"));
  pane.replaceChildren(...changes.map(({ text, side }) => {
    if (side === "both") return text;
    return Object.assign(document.createElement(side === "left" ? "del" : "ins"), { textContent: text });
  }));
}

export function watchEditor() {
  if (!dialog()) return;
  dialog().querySelector("[role=tablist]").addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) showPane(tab.dataset.pane);
  });
  dialog().querySelector("[role=tablist]").addEventListener("keydown", (event) => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way) return;
    const tabs = [...dialog().querySelectorAll("[role=tab]")];
    const tab = tabs[(tabs.indexOf(document.activeElement) + way + tabs.length) % tabs.length];
    showPane(tab.dataset.pane);
    tab.focus();
  });
  dialog().addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault(); // else it would submit the slate, once the dialog is gone
    finish(dialog(), "keep");
  });
  dialog().addEventListener("cancel", (event) => holdBack(event, "sayEscapeAgain"));
  dialog().querySelector("[data-cancel]").addEventListener("click", (event) => holdBack(event, "sayCancelAgain"));
  text().addEventListener("input", () => {
    warn("");
    keepText(editedToken, nameOf(edited), text().value === fieldAt(edited).value ? "" : text().value);
  });
}

function draw() {
  positions().forEach((i) => {
    if (fieldAt(i)) article(i).querySelector("[data-corrected]").hidden = !isChanged(i);
  });
}

onDraw(draw);
