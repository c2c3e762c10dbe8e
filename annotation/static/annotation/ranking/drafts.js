/* What is entered and not yet submitted: kept in this browser at once, on the server half a second after the last change.
 *
 * A copy is named by the slate's token and numbered by time, so that the newer of the two is the one that is gone on with.
 */
import { isPractice, main, say, slate, sourceOf, tokenOf } from "./page.js";
import { post } from "./server.js";
import { forget, isKept, keysFrom, readStored, store } from "./storage.js";

const PREFIX = "preferee-draft-";
const KEPT_MS = 14 * 24 * 60 * 60_000;
const CALM_MS = 500;
const SMALL_ENOUGH_TO_OUTLIVE_A_PAGE = 60_000;
const submitted = new Set();
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

/* Keep the form as it stands now. */
export function keepDraft() {
  if (isPractice()) return;
  lastRevision = Math.max(Date.now(), lastRevision + 1);
  pending = { token: tokenOf(), revision: lastRevision, fields: fieldsOf(slate.form) };
  store(PREFIX + pending.token, { revision: pending.revision, fields: pending.fields });
  setState("");
  clearTimeout(timer);
  timer = setTimeout(push, CALM_MS);
}

/* Put a copy of this browser's own making in place of what stands on the server, to be gone on with. */
export function putDraft(token, fields) {
  submitted.delete(token);
  lastRevision = Math.max(Date.now(), lastRevision + 1);
  store(PREFIX + token, { revision: lastRevision, fields });
}

async function push() {
  if (!pending || isPushing) return;
  const draft = pending;
  pending = null;
  isPushing = true;
  const answer = await post(main.dataset.draft, inWords(draft)).catch(() => null);
  const saved = answer?.ok && !answer.redirected;
  isPushing = false;
  if (pending) return push();
  if (tokenOf() !== draft.token || submitted.has(draft.token) || slate.form.hasAttribute("aria-busy")) return;
  if (!saved) pending = draft;
  setState(saved ? say("sayDraftSaved") : isKept() ? say("sayDraftHere") : say("sayDraftNowhere"));
}

const inWords = ({ token, revision, fields }) => ({ token, revision, fields: JSON.stringify(fields) });

export function setState(text) {
  document.getElementById("draft").textContent = text;
  if (text) document.getElementById("saved").textContent = "";
}

/* Whether leaving now would lose something: not even this browser keeps it. */
export const wouldBeLost = () => pending !== null && !isKept();

/* Go on with this browser's copy where it is newer than what the server put into the form. */
export function restoreDraft(form) {
  const draft = readStored(PREFIX + tokenOf(form));
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
  for (const key of keysFrom(PREFIX)) {
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
