/* The ranking page: keys, buttons and drag over the plain form that the server sent, which works without this file too.
 *
 * The form is the only state; what is drawn is drawn from it, so what the bar shows is what is sent. The parts:
 *   ranking/answers.js    what is asked, by kind: tiers, choices, strength, ratings; tierbar.js draws and drags
 *   ranking/keys.js       keys and buttons        ranking/reading.js  formulas, one alone, the prompt
 *   ranking/sending.js    submit, skip, undo, what comes next; outbox.js what waits; drafts.js what is not submitted
 *   ranking/flags.js, highlights.js, editor.js, compare.js, thread.js    what may be said besides
 */
import * as answers from "./ranking/answers.js";
import { ActiveClock } from "./ranking/clock.js";
import { watchCompare } from "./ranking/compare.js";
import { watchBoxes, watchDialogs } from "./ranking/dialogs.js";
import * as drafts from "./ranking/drafts.js";
import { tellOfBegun, watchEditor } from "./ranking/editor.js";
import { tell as tellOfFlag } from "./ranking/flags.js";
import { paint, watchSelection } from "./ranking/highlights.js";
import { watchKeys } from "./ranking/keys.js";
import { announce, articles, hideRemark, redraw, say, slate, useForm } from "./ranking/page.js";
import { enrich, makeReachable, watchReading, watchSwipe } from "./ranking/reading.js";
import * as sending from "./ranking/sending.js";
import { beginThread, sendMessage } from "./ranking/thread.js";

const clock = new ActiveClock();

function start(options = {}) {
  useForm(document.getElementById("ranking"));
  hideRemark();
  drafts.restoreDraft(slate.form);
  answers.begin();
  redraw();
  watchForm();
  watchReading();
  watchSwipe(answers.setCurrent);
  clock.restart(Number(slate.form.querySelector("[name=active_ms]").value));
  answers.focusResponse(answers.missing()[0] ?? 0);
  beginThread();
  tellOfBegun();
  sending.begin(options);
  dress();
}

/* Formulas and copy buttons, where they were not made ahead; what was highlighted is painted on what is there then. */
async function dress() {
  const { form } = slate;
  if ((await enrich(form)) && form === slate.form) paint();
  makeReachable(form);
}

function watchForm() {
  const { form } = slate;
  form.addEventListener("submit", (event) => handled(event, sending.submit));
  document.getElementById("skip-form")?.addEventListener("submit", (event) => handled(event, sending.skip));
  document.getElementById("message-form")?.addEventListener("submit", (event) => handled(event, sendMessage));
  form.querySelector("#retry").addEventListener("click", sending.retry);
  form.addEventListener("touched", changed);
  form.addEventListener("change", ({ target }) => {
    if (target.form !== form || !target.name) return;
    if (target.type === "radio") answers.radioChanged(target);
    else if (target.name === "all_bad") announce(say(target.checked ? "sayAllBad" : "sayNotAllBad"));
    else if (target.type === "checkbox") tellOfFlag(target);
    changed();
  });
  form.querySelector("[name=rationale]")?.addEventListener("input", drafts.keepDraft);
  articles().forEach((article, i) => {
    article.addEventListener("focusin", () => answers.setCurrent(i));
    article.querySelector(".reader").addEventListener("click", (event) => {
      if (!event.target.closest("button, a, summary") && getSelection().isCollapsed) answers.focusResponse(i);
    });
  });
}

function changed() {
  redraw();
  drafts.keepDraft();
}

function handled(event, act) {
  event.preventDefault();
  act();
}

sending.useParts({ clock, start });
drafts.useClock(() => clock.milliseconds());
start();
watchKeys();
watchBoxes();
watchSelection();
watchEditor();
watchCompare();
watchDialogs();
drafts.watchDrafts();
sending.watchSending();
