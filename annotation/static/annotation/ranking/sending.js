/* Submitting, skipping, and what comes next: the slate that was fetched ahead is shown as soon as the server has said
 * that it has the ranking, or as soon as it is clear that the server cannot be reached.
 */
import { shortcomings, showMissing } from "./answers.js";
import { announce, articles, holder, isPractice, main, remark, say, slate, tokenOf } from "./page.js";
import { open } from "./dialogs.js";
import { lettersBegun } from "./editor.js";
import { forgetDraft, putDraft, setState } from "./drafts.js";
import { draw as drawOutbox, entries, flush, hasRanked, send, strike, waiting, watchOutbox } from "./outbox.js";
import { enrich } from "./reading.js";
import { ask, askForPiece, post } from "./server.js";
import { isUnsent, settleMessage } from "./thread.js";

const RENEW_EVERY = 4 * 60_000;
let html = holder.innerHTML;
let next = null, toldOfBegun = "", isBusy = false, renewals, clock, start, lastTry = null;

export function useParts(parts) {
  ({ clock, start } = parts);
}

const part = (id) => slate.form.querySelector(`#${id}`);

/* A slate has come to the screen: hold it while it is worked on, and fetch the one after it. */
export function begin({ isFetchedAhead = false, following } = {}) {
  [next, isBusy] = [null, false];
  clearInterval(renewals);
  if (isPractice() || slate.form.dataset.next) return; // neither holds a slate, and none follows
  renewals = setInterval(() => { if (!isBusy && clock.wasActiveWithin(RENEW_EVERY)) renew(); }, RENEW_EVERY);
  const held = isFetchedAhead ? renew() : Promise.resolve();
  next = following ? Promise.resolve(following) : held.then(prefetch);
}

/* The slate after this one, made ready to be shown: {html, fragment}; {} where there is none, null where nobody knows. */
async function prefetch() {
  return prepare(await askForPiece(main.dataset.prefetch, { token: tokenOf() }));
}

function prepare(piece) {
  if (piece === null) return null;
  if (piece === "") return {};
  const template = document.createElement("template");
  template.innerHTML = piece;
  if (hasRanked(tokenOf(template.content))) return null; // it waits to be sent, or was sent meanwhile
  enrich(template.content);
  return { html: piece, fragment: template.content };
}

/* A slate is held for a while only. It is held for longer while its annotator is at work, and anew when a slate that
 * was fetched ahead is shown: it has waited, and must be theirs again before the one after it is asked for.
 */
async function renew() {
  const token = tokenOf();
  const answer = await post(main.dataset.renew, { token })
    .then((answer) => (answer.ok && !answer.redirected ? answer.json() : null))
    .catch(() => null); // what keeps this from being answered, the submission will say
  if (answer?.held === false && token === tokenOf() && !isBusy) sayLapsed();
}

function sayLapsed() {
  clearInterval(renewals);
  part("lapsed").textContent = say("sayLapsed");
  part("lapsed").hidden = false;
  announce(say("sayLapsed"));
}

/* Submitting ------------------------------------------------------------------------------------------------------ */

export async function submit() {
  if (isBusy) return;
  slate.form.querySelector("[name=active_ms]").value = clock.milliseconds();
  if (isPractice()) return submitPractice();
  if (holdsBack()) return;
  const entry = { token: tokenOf(), url: slate.form.getAttribute("action"), fields: fieldsNow(), html };
  const outcome = await busy(() => send(entry));
  if (outcome.state === "done") return acknowledged(entry.token, outcome);
  if (outcome.state === "refused" && outcome.problems.length) return refuse(entry, outcome.problems);
  if (outcome.state === "refused") return refuse(entry, [say("sayTrouble", { status: outcome.status })]);
  return postpone(entry);
}

/* A correction that was begun and not kept is asked about once; the second time the slate goes without it. */
function holdsBack() {
  const letters = lettersBegun();
  if (!letters || toldOfBegun === tokenOf()) return false;
  toldOfBegun = tokenOf();
  showProblems([`${say("sayCorrectionBegun", { letters })} ${say("saySubmitWithout")}`]);
  return true;
}

const fieldsNow = () => [...new FormData(slate.form)].filter(([name]) => name !== "csrfmiddlewaretoken");

/* A try is no ranking: nothing of it waits in the outbox. */
async function submitPractice() {
  lastTry = submit;
  const outcome = await busy(() => ask(slate.form.getAttribute("action"), new FormData(slate.form)));
  if (outcome.state === "done") return location.assign(outcome.next);
  setSaved("");
  if (outcome.problems?.length) return [showProblems(outcome.problems), showMissing()];
  showTrouble(outcome.status ? say("sayTrouble", { status: outcome.status }) : say("sayPracticeUnreached"));
}

/* While something is on its way, what is on the screen stays as it was sent: until the next slate is there. */
async function busy(act) {
  setBusy(true);
  part("problems").hidden = true;
  showTrouble("");
  setSaved(say("saySaving"));
  try {
    return await act();
  } finally {
    setBusy(false);
  }
}

function setBusy(on) {
  isBusy = on;
  if (on) slate.form.setAttribute("aria-busy", "true");
  else slate.form.removeAttribute("aria-busy");
  slate.form.querySelectorAll("textarea").forEach((area) => { area.readOnly = on; });
}

async function acknowledged(token, answer, done = say("saySaved")) {
  forgetDraft(token);
  document.getElementById("progress").textContent = answer.progress;
  setSaved(done);
  if (token !== tokenOf()) return;
  await settleMessage();
  if (answer.next || slate.form.dataset.next) return location.assign(answer.next || slate.form.dataset.next);
  await goOn();
  if (answer.rest) rest();
}

async function goOn() {
  setBusy(true);
  if (waiting().length) await flush(); // else the server would give again what only waits to be sent
  const ahead = (await next) ?? prepare(await askForPiece(main.dataset.claim, {}));
  if (ahead?.html) return show(ahead);
  if (ahead) return location.assign(main.dataset.home);
  setBusy(false);
  lastTry = goOn;
  showTrouble(say("sayNoNext"));
}

/* Complete, it waits in the outbox and the next slate is gone on with, if there is one; else it stays a draft. */
async function postpone(entry) {
  setSaved("");
  if (shortcomings().length) {
    strike(entry.token);
    showProblems(shortcomings());
    return showMissing();
  }
  const ahead = await Promise.race([next, Promise.resolve(null)]);
  if (!ahead?.html || entry.token !== tokenOf()) return;
  const isToTell = isUnsent();
  show(ahead);
  if (isToTell) remark(say("sayMessageKept"));
}

function refuse(entry, problems) {
  strike(entry.token);
  setSaved("");
  showProblems(problems);
  showMissing();
}

function showProblems(problems) {
  const line = (textContent) => Object.assign(document.createElement("p"), { textContent });
  part("problems").replaceChildren(...problems.map(line));
  part("problems").hidden = false;
}

/* Skipping needs the server: nothing of it is kept, so that nothing is passed over by mistake later. */
export async function skip() {
  if (isBusy) return;
  lastTry = skip;
  const token = tokenOf();
  const fields = { token, reason: part("skip-reason").value };
  const outcome = await busy(() => ask(document.getElementById("skip-form").action, fields));
  if (outcome.state === "done") return acknowledged(token, outcome, say("saySkipped"));
  setSaved("");
  if (outcome.problems?.length) return showProblems(outcome.problems);
  if (outcome.state === "signed-out") return showTrouble(say("saySkipSignedOut"));
  showTrouble(outcome.status ? say("sayTrouble", { status: outcome.status }) : say("saySkipUnreached"));
}

export function retry() {
  lastTry?.();
}

function setSaved(text) {
  setState("");
  document.getElementById("saved").textContent = text;
}

function showTrouble(text) {
  part("trouble").hidden = !text;
  part("trouble").querySelector("span").textContent = text;
}

/* The next slate, and earlier ones --------------------------------------------------------------------------------- */

function show({ html: source, fragment }, following = undefined) {
  html = source;
  holder.replaceChildren(fragment);
  start({ isFetchedAhead: true, following });
  drawOutbox();
  announce(say("sayNext", { count: articles().length }));
}

/* A break is offered with the next slate ready behind it; its time does not count. */
async function rest() {
  clock.pause();
  await open("rest");
  clock.resume();
}

/* Undo: the last ranking, from the outbox while it waits there, else from the server. */
export function undo() {
  if (isPractice()) return;
  const last = entries().at(-1);
  if (last?.html && last.token !== tokenOf()) return reopen(last);
  document.getElementById("undo-form")?.requestSubmit();
}

function reopen(entry) {
  const fields = {};
  for (const [name, value] of entry.fields) {
    fields[name] = name.startsWith("flag_") ? [...(fields[name] ?? []), value] : value;
  }
  const before = html;
  const template = document.createElement("template");
  template.innerHTML = entry.html;
  putDraft(template.content.querySelector("#ranking"), fields);
  strike(entry.token);
  enrich(template.content);
  show({ html: entry.html, fragment: template.content }, prepare(before));
}

/* What was sent later: if its slate is still on the screen, go on, and tell where more had been entered meanwhile; and
 * look for a slate to come.
 */
async function delivered(entry, answer) {
  const said = (fields) => JSON.stringify(fields.filter(([name]) => name !== "active_ms"));
  const isChanged = entry.token === tokenOf() && said(entry.fields) !== said(fieldsNow());
  await acknowledged(entry.token, answer);
  if (isChanged) remark(say("saySentBefore"));
  lookAhead();
}

/* Where the slate to come could not be fetched, ask for it again, once nothing waits that it could be. */
async function lookAhead() {
  if (next && (await next) === null && !waiting().length) next = prefetch();
}

export function watchSending() {
  watchOutbox({ delivered, reopen });
  addEventListener("online", () => flush().then(lookAhead));
}
