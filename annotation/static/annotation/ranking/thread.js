/* The talk with the reviewers about the slate on screen: a box behind "Message", filled anew by the server's answer. */
import { announce, say, slate } from "./page.js";
import { openBox } from "./dialogs.js";
import { post } from "./server.js";

const box = () => slate.form.querySelector(".talk");

export function openThread() {
  if (box()) openBox(box(), box().querySelector("textarea"));
}

/* Sends what is written; nothing of it is lost where it does not arrive. */
export async function sendMessage() {
  const form = document.getElementById("message-form");
  const text = box().querySelector("textarea");
  const trouble = box().querySelector("[data-trouble]");
  trouble.textContent = "";
  const answer = await post(form.action, new FormData(form)).catch(() => null);
  if (!answer || answer.redirected || !(answer.ok || answer.status === 422)) {
    trouble.textContent = answer?.redirected ? say("sayMessageSignedOut") : say("sayMessageUnreached");
    return text.focus();
  }
  box().querySelector("#thread").outerHTML = await answer.text();
  box().querySelector("textarea").focus();
  if (answer.ok) announce(say("sayMessageSent"));
  box().querySelector(".count").textContent = box().querySelectorAll("#thread .line").length || "";
}
