/* What is entered but not yet acknowledged, kept in this tab's storage by lease token, so that a reload loses nothing. */
const keyOf = (token) => `preferee-draft-${token}`;

export function keepDraft(form) {
  const data = new FormData(form);
  const size = Number(form.dataset.size);
  const draft = {
    tiers: Array.from({ length: size }, (_none, i) => data.get(`tier_${i}`) ?? ""),
    allBad: data.has("all_bad"),
    rationale: data.get("rationale"),
  };
  attempt(() => sessionStorage.setItem(keyOf(data.get("token")), JSON.stringify(draft)));
}

export function readDraft(token) {
  return attempt(() => JSON.parse(sessionStorage.getItem(keyOf(token)))) ?? null;
}

export function forgetDraft(token) {
  attempt(() => sessionStorage.removeItem(keyOf(token)));
}

/* Storage may be switched off; the page works without it. */
function attempt(act) {
  try {
    return act();
  } catch {
    return null;
  }
}
