/* Rankings on their way: each is written down before it is sent and struck out when the server has said that it has it,
 * so that neither a lost network nor a closed tab loses one. One is sent by one tab at a time; should two do it all the
 * same, the server takes it once, since it goes by its token.
 */
import { isPractice, main, say, tokenOf } from "./page.js";
import { open as openDialog } from "./dialogs.js";
import { ask } from "./server.js";
import { forget, keysFrom, readStored, store } from "./storage.js";

const PREFIX = "preferee-outbox-";
const FIRST_WAIT = 2000, LONGEST_WAIT = 60_000;
const box = document.getElementById("outbox");
const inFlight = new Set(), sent = new Set();
let wait = FIRST_WAIT, timer = null, trouble = "", flushing = null;
let handlers = { delivered() {}, reopen() {} };

/* Entries are {token, url, fields, html, at, state, problems, who, home}; state is "waiting" or "refused". */
export function entries() {
  const { annotator, home } = main.dataset;
  const isMine = (entry) => entry?.who === annotator && entry.home === home;
  return keysFrom(PREFIX).map(readStored).filter(isMine).sort((a, b) => a.at - b.at);
}

export const waiting = () => entries().filter((entry) => entry.state === "waiting" && !inFlight.has(entry.token));
const holds = (token) => readStored(PREFIX + token) !== null;
export const hasRanked = (token) => holds(token) || sent.has(token);

export function strike(token) {
  forget(PREFIX + token);
  draw();
}

function write(entry) {
  const mine = { ...entry, who: main.dataset.annotator, home: main.dataset.home };
  return store(PREFIX + entry.token, mine) || store(PREFIX + entry.token, { ...mine, html: "" });
}

/* Write a ranking down and send it. What came of it is told as by `ask`; "unreached" and "signed-out" leave it waiting. */
export function send(entry) {
  write({ ...entry, at: Date.now(), state: "waiting" });
  return locked(entry.token, {}, () => deliver(entry));
}

async function deliver(entry) {
  inFlight.add(entry.token);
  const outcome = await ask(entry.url, entry.fields);
  inFlight.delete(entry.token);
  if (outcome.state === "done" || outcome.state === "refused") {
    [trouble, wait] = ["", FIRST_WAIT];
    if (outcome.state === "done") {
      sent.add(entry.token);
      forget(PREFIX + entry.token);
    }
  } else {
    trouble = troubleOf(outcome);
    later();
  }
  draw();
  return outcome;
}

function troubleOf({ state, status }) {
  if (state === "signed-out") return state;
  return status ? say("sayServerTrouble", { status }) : "unreached";
}

/* Try what waits, oldest first, until one cannot be sent. */
export function flush() {
  flushing ??= sendWaiting().finally(() => { flushing = null; });
  return flushing;
}

async function sendWaiting() {
  clearTimeout(timer);
  for (const entry of waiting()) {
    const outcome = await locked(entry.token, { ifAvailable: true }, () => (holds(entry.token) ? deliver(entry) : null));
    if (outcome?.state === "done") handlers.delivered(entry, outcome);
    else if (outcome?.state === "refused") write({ ...entry, state: "refused", problems: problemsOf(outcome) });
    else if (outcome) break;
  }
  draw();
}

const problemsOf = ({ problems, status }) => (problems?.length ? problems : [say("sayServerTrouble", { status })]);

function later() {
  clearTimeout(timer);
  timer = setTimeout(flush, wait);
  wait = Math.min(wait * 2, LONGEST_WAIT);
}

/* Run `act` as the only tab that sends this ranking; null where another is at it and one need not wait. */
function locked(token, options, act) {
  if (!navigator.locks) return inFlight.has(token) ? Promise.resolve(null) : act();
  return navigator.locks.request(PREFIX + token, options, (lock) => (lock ? act() : null));
}

/* What waits, and why, above the slate. */
export function draw() {
  const [waits, refused] = [waiting(), entries().filter(({ state }) => state === "refused")];
  box.hidden = !waits.length && !refused.length;
  box.replaceChildren(...(waits.length ? [waitingLine(waits.length)] : []), ...refused.map(refusedLine));
}

function waitingLine(count) {
  const line = document.createElement("p");
  const isSignedOut = trouble === "signed-out";
  line.append(say(count === 1 ? "sayOneWaits" : "sayManyWait", { count }), " ");
  line.append(isSignedOut ? say("saySignedOut") : trouble === "unreached" ? unreached() : trouble, " ");
  if (isSignedOut) line.append(signInLink(), " ");
  line.append(button("sayRetry", () => flush(), "retry"));
  return line;
}

/* One can go on where what is on the screen does not itself wait. */
const unreached = () => `${say("sayUnreached")} ${say(holds(tokenOf()) ? "sayStays" : "sayGoOn")}`;

function signInLink() {
  return Object.assign(document.createElement("a"), { href: main.dataset.login, textContent: say("saySignIn") });
}

function refusedLine(entry) {
  const line = document.createElement("p");
  line.append(say("sayRefused", { problems: entry.problems.join(" ") }), " ");
  if (entry.html && !isPractice()) line.append(button("sayOpen", () => handlers.reopen(entry), "reopen"), " ");
  line.append(button("sayDrop", () => drop(entry), "drop"));
  return line;
}

function button(name, act, id) {
  const one = Object.assign(document.createElement("button"), { type: "button", textContent: say(name) });
  one.dataset.outbox = id;
  one.addEventListener("click", act);
  return one;
}

async function drop(entry) {
  if ((await openDialog("drop-it")) === "drop") strike(entry.token);
}

/* `delivered(entry, answer)` is told of what was sent later, `reopen(entry)` of what is to be shown again. */
export function watchOutbox(given) {
  handlers = given;
  draw();
  addEventListener("online", () => { wait = FIRST_WAIT; flush(); });
  addEventListener("storage", (event) => { if (event.key?.startsWith(PREFIX)) draw(); });
  return flush();
}
