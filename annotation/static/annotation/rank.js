/* The ranking page: keys, buttons and drag over the plain form that the server sent.
 *
 * The form's radios are the only state; the tier bar is drawn from them and writes into them, so what it shows is
 * what is sent. A submitted ranking is kept on the page (and in this tab's storage) until the server has said that
 * it has it. Without this file the page is an ordinary form.
 */
import { ActiveClock } from "./clock.js";
import { forgetDraft, keepDraft, readDraft } from "./drafts.js";
import { drawTierBar, watchDrag } from "./tierbar.js";

const page = document.getElementById("main");
const holder = document.getElementById("slate");
const announcer = document.getElementById("announcer");
const clock = new ActiveClock();
const RENEW_EVERY = 4 * 60_000;
let form, size, current, placedInTurn, next, sending, touched, renewals;

function say(name, values = {}) {
  const text = page.dataset[name] ?? "";
  return text.replace(/\{(\w+)\}/g, (_all, key) => values[key] ?? "");
}

function announce(text) {
  announcer.textContent = "";
  requestAnimationFrame(() => { announcer.textContent = text; });
}

const articles = () => [...form.querySelectorAll(".response")];
const letterOf = (position) => articles()[position].dataset.letter;
const radios = (position) => [...form.querySelectorAll(`input[name="tier_${position}"]`)];
const checkedRadio = (position) => radios(position).find((radio) => radio.checked);
const tierOf = (position) => Number(checkedRadio(position)?.value || 0);
const positionsIn = (tier) => articles().map((_article, i) => i).filter((i) => tierOf(i) === tier);

function place(position, tier) {
  if (tier > size) return announce(say("sayNoTier", { count: size }));
  radios(position).find((radio) => Number(radio.value || 0) === tier).checked = true;
  afterPlacing(position);
}

function afterPlacing(position) {
  const tier = tierOf(position);
  placedInTurn = placedInTurn.filter((i) => i !== position).concat(tier ? position : []);
  const others = positionsIn(tier).filter((i) => i !== position).map(letterOf).join(", ");
  const name = !tier ? "sayCleared" : others ? "sayTied" : "sayPlaced";
  announce(say(name, { letter: letterOf(position), tier, others }));
  changed();
}

function tieWithLast(position) {
  const last = placedInTurn.filter((i) => i !== position).at(-1);
  if (last === undefined) return announce(say("sayNonePlaced"));
  place(position, tierOf(last));
}

function changed() {
  touched = true;
  draw();
  keepDraft(form);
}

function draw() {
  articles().forEach((article, i) => {
    const tier = tierOf(i);
    article.dataset.tier = tier || "";
    const tied = tier && positionsIn(tier).length > 1;
    article.querySelector("[data-place]").textContent = tier ? say("sayTier", { tier }) + (tied ? " =" : "") : "";
    if (tier) article.classList.remove("missing");
  });
  const tiers = Array.from({ length: size + 1 }, (_none, tier) => positionsIn(tier));
  drawTierBar(form.querySelector("#tierbar"), tiers, letterOf, current);
}

function focusResponse(position) {
  const count = articles().length;
  current = (position + count) % count;
  checkedRadio(current).focus({ preventScroll: true });
  markCurrent();
  const article = articles()[current];
  article.parentElement.scrollTo({ left: article.offsetLeft - article.parentElement.offsetLeft, behavior: "instant" });
}

function markCurrent() {
  articles().forEach((article, i) => article.classList.toggle("current", i === current));
  form.querySelectorAll(".chip").forEach((chip) => chip.classList.toggle("current", Number(chip.dataset.position) === current));
}

function toggleAlone(on = !form.classList.contains("alone")) {
  form.classList.toggle("alone", on);
}

function scrollCurrent(way) {
  const article = articles()[current];
  article.scrollBy({ top: way * Math.max(40, article.clientHeight * 0.3), behavior: "instant" });
}

/* Sending ------------------------------------------------------------------------------------------------------ */

function csrfToken() {
  return document.cookie.split("; ").find((part) => part.startsWith("csrftoken="))?.split("=")[1]
    ?? form.querySelector("[name=csrfmiddlewaretoken]").value;
}

async function post(url, fields) {
  const body = new URLSearchParams(fields);
  body.delete("csrfmiddlewaretoken"); // a sign-in in another tab makes the page's own stale; the cookie's is fresh
  return fetch(url, { method: "POST", body, headers: { Accept: "application/json", "X-CSRFToken": csrfToken() } });
}

const tokenOf = () => form.querySelector("[name=token]").value;

function prefetch() {
  return post(page.dataset.prefetch, { token: tokenOf() })
    .then(async (answer) => (answer.ok && !answer.redirected ? { html: await answer.text() } : null))
    .catch(() => null);
}

/* A slate is held for a while only. It is held for longer while its annotator is at work, and anew when a slate that
 * was fetched ahead is shown: it has waited, and must be theirs again before the one after it is asked for.
 */
async function renew() {
  const token = tokenOf();
  const answer = await post(page.dataset.renew, { token })
    .then((answer) => (answer.ok && !answer.redirected ? answer.json() : null))
    .catch(() => null); // what keeps this from being answered, the submission will say
  if (answer?.held === false && token === tokenOf() && !sending) sayLapsed();
}

function sayLapsed() {
  clearInterval(renewals);
  const box = form.querySelector("#lapsed");
  box.textContent = say("sayLapsed");
  box.hidden = false;
  announce(box.textContent);
}

function keepRenewing() {
  clearInterval(renewals);
  renewals = setInterval(() => { if (!sending && clock.wasActiveWithin(RENEW_EVERY)) renew(); }, RENEW_EVERY);
}

async function send(url, fields) {
  if (sending) return;
  sending = true;
  form.setAttribute("aria-busy", "true");
  showTrouble(null);
  setSaved(say("saySaving"));
  let answer = null;
  try {
    answer = await post(url, fields);
    if (answer.redirected) return fail(say("saySignedOut"));
    if (answer.status === 422) return refuse((await answer.json()).problems, { isRanking: url === form.action });
    if (!answer.ok) return fail(say("sayTrouble", { status: answer.status }));
    await acknowledged(await answer.json());
  } catch {
    fail(say("sayOffline"));
  } finally {
    sending = false;
    form.removeAttribute("aria-busy");
  }
}

function fail(text) {
  setSaved("");
  showTrouble(text);
}

function refuse(problems, { isRanking }) {
  setSaved("");
  const list = form.querySelector("#problems");
  list.replaceChildren(...problems.map((problem) => Object.assign(document.createElement("p"), { textContent: problem })));
  list.hidden = false;
  if (!isRanking) return; // a refused skip asks for no placing
  const missing = positionsIn(0);
  missing.forEach((i) => articles()[i].classList.add("missing"));
  if (missing.length) focusResponse(missing[0]);
}

async function acknowledged(answer) {
  forgetDraft(tokenOf());
  touched = false;
  document.getElementById("progress").textContent = answer.progress;
  setSaved(say("saySaved"));
  if (form.dataset.afterwards) return location.assign(form.dataset.afterwards);
  const ahead = (await next) ?? (await claimNext());
  if (ahead?.html) show(ahead.html);
  else location.assign(page.dataset.home);
}

async function claimNext() {
  const answer = await post(page.dataset.claim, {}).catch(() => null);
  return answer?.ok && !answer.redirected ? { html: await answer.text() } : null;
}

function show(html) {
  holder.innerHTML = html;
  start({ fetchedAhead: true });
  announce(say("sayNext", { count: articles().length }));
}

function setSaved(text) {
  document.getElementById("saved").textContent = text;
}

function showTrouble(text) {
  const box = form.querySelector("#trouble");
  box.hidden = text === null;
  box.querySelector("span").textContent = text ?? "";
}

function submit() {
  form.querySelector("[name=active_ms]").value = clock.milliseconds();
  form.querySelector("#problems").hidden = true;
  lastSend = () => send(form.action, new FormData(form));
  lastSend();
}

function skip() {
  const fields = { token: tokenOf(), reason: form.querySelector("#skip-reason").value };
  lastSend = () => send(document.getElementById("skip-form").action, fields);
  lastSend();
}

let lastSend = submit;

/* Keys --------------------------------------------------------------------------------------------------------- */

function openDialog(id) {
  const dialog = document.getElementById(id);
  if (dialog && !dialog.open) dialog.showModal();
}

function openSkip() {
  const box = form.querySelector("#skip");
  if (!box) return;
  box.open = true;
  box.querySelector("input").focus();
}

function toggleAllBad() {
  const box = form.querySelector("[name=all_bad]");
  box.checked = !box.checked;
  announce(say(box.checked ? "sayAllBad" : "sayNotAllBad"));
  changed();
}

const KEYS = {
  "=": () => tieWithLast(current),
  ArrowLeft: () => focusResponse(current - 1),
  ArrowRight: () => focusResponse(current + 1),
  ArrowUp: () => scrollCurrent(-1),
  ArrowDown: () => scrollCurrent(1),
  Escape: () => toggleAlone(false),
  x: toggleAllBad,
  s: openSkip,
  u: () => document.getElementById("undo-form")?.requestSubmit(),
  g: () => openDialog("guidelines"),
  p: () => form.querySelector(".prompt").classList.toggle("folded"),
  "?": () => openDialog("keys"),
};

const isTextField = (element) => element.matches("textarea, select, input:not([type=radio]):not([type=checkbox])");
const actsOnEnter = (element) => element.matches("a, button, summary, input[type=checkbox]");

function onKey(event) {
  if (document.querySelector("dialog[open]") || event.isComposing) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) return handled(event, submit);
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (isTextField(event.target)) return onTextKey(event);
  if (event.key === "Enter" && !actsOnEnter(event.target)) return handled(event, () => toggleAlone());
  if (event.target.matches(".prompt, .prompt *") && event.key.startsWith("Arrow")) return;
  if (/^[0-9]$/.test(event.key)) return handled(event, () => place(current, Number(event.key)));
  const act = KEYS[event.key];
  if (act) handled(event, act);
}

/* In a text field keys are text; only Escape leaves it, and Enter in the skip reason skips instead of submitting. */
function onTextKey(event) {
  if (event.key === "Escape") return handled(event, () => { closeSkip(); focusResponse(current); });
  if (event.key === "Enter" && event.target.id === "skip-reason") handled(event, skip);
}

function closeSkip() {
  const box = form.querySelector("#skip");
  if (box) box.open = false;
}

function handled(event, act) {
  event.preventDefault();
  act();
}

/* Start -------------------------------------------------------------------------------------------------------- */

function restoreDraft() {
  const draft = readDraft(tokenOf());
  if (!draft) return;
  draft.tiers.forEach((tier, i) => { if (i < size) radios(i).find((radio) => radio.value === tier)?.click(); });
  form.querySelector("[name=all_bad]").checked = draft.allBad;
  form.querySelector("[name=rationale]").value = draft.rationale;
}

function start({ fetchedAhead = false } = {}) {
  form = document.getElementById("ranking");
  size = Number(form.dataset.size);
  [current, next, sending, touched] = [0, null, false, false];
  form.querySelector("#tierbar").hidden = false;
  if (page.dataset.nameKeys === "yes") form.classList.add("name-keys");
  restoreDraft();
  placedInTurn = articles().map((_article, i) => i).filter(tierOf);
  draw();
  watchDrag(form.querySelector("#tierbar"), { place, focus: focusResponse });
  watchForm();
  clock.restart();
  focusResponse(0);
  if (form.dataset.afterwards) return; // an amendment holds no slate, and none follows it
  keepRenewing();
  next = (fetchedAhead ? renew() : Promise.resolve()).then(prefetch);
}

function watchForm() {
  form.addEventListener("submit", (event) => handled(event, submit));
  document.getElementById("skip-form")?.addEventListener("submit", (event) => handled(event, skip));
  form.querySelector("#retry").addEventListener("click", () => lastSend());
  form.addEventListener("change", (event) => {
    const match = /^tier_(\d+)$/.exec(event.target.name);
    if (match) afterPlacing(Number(match[1]));
    else changed();
  });
  form.querySelector("[name=rationale]").addEventListener("input", () => keepDraft(form));
  articles().forEach((article, i) => {
    article.addEventListener("focusin", () => { current = i; markCurrent(); });
    article.addEventListener("click", (event) => {
      if (!event.target.closest("fieldset") && !String(getSelection())) focusResponse(i);
    });
    article.addEventListener("scroll", () => foldPromptBehind(article), { passive: true });
  });
}

/* The prompt gives its room to the responses once one of them is read on; it comes back with p or a click. */
function foldPromptBehind(article) {
  const prompt = form.querySelector(".prompt");
  if (article.scrollTop > 40 && !prompt.dataset.folded) {
    prompt.dataset.folded = "once";
    prompt.classList.add("folded");
    prompt.scrollTop = 0;
    prompt.addEventListener("click", () => prompt.classList.remove("folded"));
  }
}

function upgradePage() {
  document.documentElement.classList.add("js");
  document.getElementById("open-keys").hidden = false;
  document.getElementById("open-keys").addEventListener("click", () => openDialog("keys"));
  document.getElementById("open-guidelines")?.addEventListener("click", (event) => {
    if (!event.ctrlKey && !event.metaKey) handled(event, () => openDialog("guidelines"));
  });
  document.addEventListener("keydown", onKey);
  addEventListener("beforeunload", (event) => { if (touched && !form.querySelector("#trouble").hidden) event.preventDefault(); });
}

upgradePage();
start();
