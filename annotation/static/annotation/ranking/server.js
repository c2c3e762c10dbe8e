/* What is asked of the server, and how its answers are told apart. */
import { slate } from "./page.js";

const PATIENCE = 20_000;

function csrfToken() {
  return document.cookie.split("; ").find((part) => part.startsWith("csrftoken="))?.split("=")[1]
    ?? slate.form.querySelector("[name=csrfmiddlewaretoken]").value;
}

export function post(url, fields, options = {}) {
  const body = new URLSearchParams(fields);
  body.delete("csrfmiddlewaretoken"); // a sign-in in another tab makes the page's own stale; the cookie's is fresh
  const headers = { Accept: "application/json", "X-CSRFToken": csrfToken() };
  return fetch(url, { method: "POST", body, headers, signal: AbortSignal.timeout(PATIENCE), ...options });
}

/* What came of a request: "done" with the answer's JSON, "refused" with problems, "signed-out", or "unreached" with a
 * status where the server itself is in trouble. Only the last two are worth another try as they are.
 */
export async function ask(url, fields) {
  let answer;
  try {
    answer = await post(url, fields);
    if (answer.redirected) return { state: "signed-out" };
    if (answer.ok) return { state: "done", ...(await answer.json()) };
    if (answer.status === 422) return { state: "refused", problems: (await answer.json()).problems };
  } catch {
    return { state: "unreached", status: 0 };
  }
  const isPassing = answer.status >= 500 || answer.status === 429 || answer.status === 408;
  return { state: isPassing ? "unreached" : "refused", status: answer.status, problems: [] };
}

/* A piece of a page: its HTML, "" where the server has none (204), null where it did not answer. */
export function askForPiece(url, fields) {
  return post(url, fields)
    .then((answer) => (answer.ok && !answer.redirected ? answer.text() : null))
    .catch(() => null);
}
