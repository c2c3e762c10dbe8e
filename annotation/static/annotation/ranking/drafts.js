/* What is entered and not yet submitted: kept in this browser at once, on the server half a second after the last change.
 *
 * A copy is named by the slate's token and numbered by time, so that the newer of the two is the one that is gone on with.
 * No number is lower than one that is known of: another browser's clock may be ahead. Text that stands in no field of the
 * form yet (a correction in its editor, a message that is not sent) is kept in this browser, by a token and a name.
 */
import { isPractice, main, say, slate, sourceOf, tokenOf } from "./page.js";
import { post } from "./server.js";
import { forget, isKept, keysFrom, readStored, store } from "./storage.js";

const PREFIX = "preferee-draft-";
const TEXT_PREFIX = "preferee-text-";
const KEPT_MS = 14 * 24 * 60 * 60_000;
const CALM_MS = 500;
const SMALL_ENOUGH_TO_OUTLIVE_A_PAGE = 60_000;
const submitted = new Set(), loose = new Set();
let pending = null, timer = null, isPushing = false, lastRevision = 0, readClock = () => 0;

export function useClock(read) {
  readClock = read;
}

/* The form's fields as {name: text, or a list of texts for checkboxes of one name}; untouched corrections are left out. */
export function fieldsOf(form) {
  const fields = {};
  for (const [name, value] of new FormData(form)) {
    if (name === "csrfmiddlewaretoken" || name === "token") continue;
    if (name.startsWith("flag_")) fields[name] = [...(fields[name] ?? []), value];
    else fields[name] = value;
  }
  form.querySelectorAll(".correction textarea").forEach((area) => {
    if (area.value === sourceOf(area)) delete fields[area.name];
  });
  return { ...fields, active_ms: String(readClock()) };
}

export function fillIn(form, fields) {
  for (const input of form.elements) {
    if (!input.name || input.name === "csrfmiddlewaretoken" || input.name === "token") continue;
    const value = fields[input.name];
    if (input.type === "radio") input.checked = input.value === (value ?? "");
    else if (input.name.startsWith("flag_")) input.checked = (value ?? []).includes(input.value);
    else if (input.type === "checkbox") input.checked = value !== undefined;
    else if (input.closest(".correction")) input.value = value ?? sourceOf(input);
    else input.value = value ?? "";
  }
}

function nextRevision() {
  lastRevision = Math.max(Date.now(), lastRevision + 1);
  return lastRevision;
}

function learn(revision) {
  lastRevision = Math.max(lastRevision, Number(revision) || 0);
}

function storeDraft({ token, revision, fields }) {
  store(PREFIX + token, { revision, fields });
}

/* Keep the form as it stands now. */
export function keepDraft() {
  if (isPractice()) return;
  pending = { token: tokenOf(), revision: nextRevision(), fields: fieldsOf(slate.form) };
  storeDraft(pending);
  setState("");
  clearTimeout(timer);
  timer = setTimeout(push, CALM_MS);
}

/* Put a copy of this browser's own making in place of what stands on the server, to be gone on with in this form. */
export function putDraft(form, fields) {
  submitted.delete(tokenOf(form));
  learn(form.dataset.draftRevision);
  storeDraft({ token: tokenOf(form), revision: nextRevision(), fields });
}

async function push() {
  if (!pending || isPushing) return;
  const draft = pending;
  pending = null;
  isPushing = true;
  const { saved, revision = 0 } = await sendDraft(draft);
  isPushing = false;
  learn(revision);
  if (!saved && !submitted.has(draft.token)) renumber(draft, revision);
  if (pending) return push();
  if (tokenOf() !== draft.token || submitted.has(draft.token) || slate.form.hasAttribute("aria-busy")) return;
  if (!saved) pending = draft;
  setState(saved ? say("sayDraftSaved") : isKept() ? say("sayDraftHere") : say("sayDraftNowhere"));
}

/* {saved}, and where a newer one is kept already its revision; {} where nothing came of it. */
async function sendDraft(draft) {
  const answer = await post(main.dataset.draft, inWords(draft)).catch(() => null);
  return answer?.ok && !answer.redirected ? answer.json().catch(() => ({})) : {};
}

/* Another browser's copy has the higher number, but this one is what was entered last: it is kept over it. */
function renumber(draft, revision) {
  const newest = pending ?? draft;
  if (newest.token !== draft.token || newest.revision > revision) return;
  pending = { ...newest, revision: nextRevision() };
  storeDraft(pending);
}

const inWords = ({ token, revision, fields }) => ({ token, revision, fields: JSON.stringify(fields) });

export function setState(text) {
  document.getElementById("draft").textContent = text;
  if (text) document.getElementById("saved").textContent = "";
}

/* Whether leaving now would lose something: not even this browser keeps it. */
export const wouldBeLost = () => !isKept() && (pending !== null || loose.size > 0);

/* Keep a text that stands in no field of the form; "" is nothing to keep. */
export function keepText(token, name, text) {
  const key = `${TEXT_PREFIX}${token}-${name}`;
  if (!text) return forgetText(token, name);
  loose.add(key);
  if (!isPractice()) store(key, { revision: Date.now(), text });
}

export const keptText = (token, name) => readStored(`${TEXT_PREFIX}${token}-${name}`)?.text ?? "";

export function forgetText(token, name) {
  const key = `${TEXT_PREFIX}${token}-${name}`;
  loose.delete(key);
  forget(key);
}

/* Go on with this browser's copy where it is newer than what the server put into the form. */
export function restoreDraft(form) {
  const draft = readStored(PREFIX + tokenOf(form));
  learn(form.dataset.draftRevision);
  learn(draft?.revision);
  if (!draft || draft.revision <= Number(form.dataset.draftRevision)) return;
  fillIn(form, draft.fields);
  pending = { token: tokenOf(form), ...draft };
  timer = setTimeout(push, CALM_MS);
}

export function forgetDraft(token) {
  submitted.add(token);
  if (pending?.token === token) {
    pending = null;
    clearTimeout(timer);
  }
  forget(PREFIX + token);
}

/* What is left of other days, and what waited when the page is left or the network is back. */
export function watchDrafts() {
  for (const key of [...keysFrom(PREFIX), ...keysFrom(TEXT_PREFIX)]) {
    if (!(readStored(key)?.revision > Date.now() - KEPT_MS)) forget(key);
  }
  addEventListener("online", push);
  addEventListener("pagehide", () => {
    if (!pending) return;
    const body = new URLSearchParams(inWords(pending));
    if (String(body).length > SMALL_ENOUGH_TO_OUTLIVE_A_PAGE) return;
    post(main.dataset.draft, inWords(pending), { keepalive: true }).catch(() => null);
  });
  addEventListener("beforeunload", (event) => { if (wouldBeLost()) event.preventDefault(); });
}
