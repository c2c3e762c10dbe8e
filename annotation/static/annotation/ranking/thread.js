/* The talk with the reviewers about the slate on screen: a box behind "Message", filled anew by the server's answer. What is
 * written and not sent is kept in this browser under the token by which the talk's slate is known.
 */
import { announce, remark, say, slate } from "./page.js";
import { open, openBox } from "./dialogs.js";
import { forgetText, keepText, keptText } from "./drafts.js";
import { post } from "./server.js";

const NAME = "message";
const box = () => slate.form.querySelector(".talk");
const field = (talk = box()) => talk?.querySelector("textarea");
const form = () => document.getElementById("message-form");
const tokenOfTalk = () => form().querySelector("[name=token]").value;
let onItsWay = null;

export function openThread() {
  if (box()) openBox(box(), field());
}

/* A slate has come to the screen: what was written about it before is in its box again. */
export function beginThread() {
  if (!box()) return;
  const token = tokenOfTalk();
  field().value ||= keptText(token, NAME);
  box().addEventListener("input", () => {
    keepText(token, NAME, field().value.trim() && field().value);
    drawUnsent();
  });
  box().addEventListener("toggle", ({ target }) => { if (target.open) markSeen(target); });
  drawUnsent();
}

/* An answer that is on the screen has been read: the server is told, and nothing calls it new any more. */
async function markSeen(talk) {
  const { seen } = talk.dataset;
  if (!seen) return;
  const answer = await post(seen, {}, { redirect: "manual" }).catch(() => null);
  if (answer?.type !== "opaqueredirect" || !talk.dataset.seen) return;
  delete talk.dataset.seen;
  talk.querySelector("[data-answered]")?.remove();
  drawNews(talk.querySelectorAll("#thread .line .tag").length);
}

function drawNews(read) {
  const link = document.querySelector(".news");
  if (!link) return;
  const count = Number(link.dataset.count) - read;
  link.dataset.count = count;
  link.textContent = say(count === 1 ? "sayOneNew" : "sayManyNew", { count });
  link.hidden = count < 1;
}

const isOnItsWay = () => onItsWay?.token === tokenOfTalk() && onItsWay.text === field().value;
export const isUnsent = () => Boolean(field()?.value.trim()) && !isOnItsWay();

function drawUnsent() {
  box().querySelector("[data-unsent]").hidden = !isUnsent();
}

/* Sends what is written; nothing of it is lost where it does not arrive, and where another slate has come to the screen
 * meanwhile the answer changes nothing there. Says what went wrong, "" where nothing did.
 */
export async function sendMessage() {
  const [talk, token, sent] = [box(), tokenOfTalk(), field().value];
  tellTrouble(talk, "");
  onItsWay = { token, text: sent };
  const answer = await post(form().action, new FormData(form())).catch(() => null);
  onItsWay = null;
  const isThere = answer && !answer.redirected && (answer.ok || answer.status === 422);
  const trouble = isThere ? "" : answer?.redirected ? say("sayMessageSignedOut") : say("sayMessageUnreached");
  if (answer?.ok && isThere && keptText(token, NAME) === sent) forgetText(token, NAME);
  if (!talk.isConnected) return trouble && remark(say("sayMessageKept"));
  if (trouble) {
    tellTrouble(talk, trouble);
    if (talk.open) field(talk).focus();
    else remark(trouble);
    return trouble;
  }
  const piece = await answer.text();
  fill(talk, piece, answer.ok ? unsentPart(field(talk).value, sent) : field(talk).value);
  keepText(token, NAME, field(talk).value);
  if (!answer.ok) return talk.querySelector("[data-trouble]").textContent;
  announce(say("sayMessageSent"));
  return "";
}

/* What was written after a text had been sent, most often nothing. */
const unsentPart = (text, sent) => (text.startsWith(sent) ? text.slice(sent.length).trimStart() : text);

function fill(talk, piece, text) {
  const hadFocus = talk.contains(document.activeElement);
  talk.querySelector("#thread").outerHTML = piece;
  field(talk).value = text;
  if (hadFocus) field(talk).focus();
  talk.querySelector(".count").textContent = talk.querySelectorAll("#thread .line").length || "";
  talk.querySelector("[data-unsent]").hidden = !text.trim();
}

function tellTrouble(talk, text) {
  talk.querySelector("[data-trouble]").textContent = text;
}

/* The slate is saved, and a message about it is not sent: ask what is to become of it. Kept it is in any case. */
export async function settleMessage() {
  const dialog = document.getElementById("unsent");
  for (let trouble = ""; dialog && isUnsent();) {
    dialog.querySelector("blockquote").textContent = field().value;
    tellTrouble(dialog, trouble);
    if ((await open("unsent")) !== "send") return;
    trouble = await sendMessage();
  }
}
