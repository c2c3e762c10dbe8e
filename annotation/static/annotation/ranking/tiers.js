/* A full ranking with ties: a tier or none for each response. */
import { article, checkedOf, letterOf, lettersOf, positions, radiosOf, remark, say, slate } from "./page.js";

const tierOf = (position) => Number(checkedOf(`tier_${position}`)?.value || 0);
const positionsIn = (tier) => positions().filter((i) => tierOf(i) === tier);
let placedInTurn = [];

export function begin() {
  placedInTurn = positions().filter(tierOf);
}

export const missing = () => positionsIn(0);
export const isAsked = () => missing().length > 0;

/* The response to go on with: the next one, in the order of the page, that is not placed. */
export function nextAfter(position) {
  return positions().map((i) => (position + 1 + i) % slate.size).find((i) => !tierOf(i)) ?? null;
}

/* Those that are best as things stand; nothing is where nothing is placed. */
export function best() {
  return positionsIn(Math.min(...positions().map(tierOf).filter(Boolean)));
}

export function digit(tier) {
  return place(slate.current, tier);
}

export function tie() {
  const last = placedInTurn.filter((i) => i !== slate.current).at(-1);
  if (last === undefined) return remark(say("sayNonePlaced"));
  return place(slate.current, tierOf(last));
}

/* Put a response into a tier, or out of all (0). Says what happened, and whether it is the first answer for it. */
export function place(position, tier) {
  if (tier > slate.size) return remark(say("sayNoTier", { count: slate.size }));
  const isFirst = tierOf(position) === 0 && tier > 0;
  radiosOf(`tier_${position}`).find((radio) => Number(radio.value || 0) === tier).checked = true;
  return { said: changed(position), isFirst };
}

/* After a change of a response's radio, by whatever means: what there is to say of it. */
export function changed(position) {
  const tier = tierOf(position);
  placedInTurn = placedInTurn.filter((i) => i !== position).concat(tier ? position : []);
  const others = lettersOf(positionsIn(tier).filter((i) => i !== position));
  const name = !tier ? "sayCleared" : others ? "sayTied" : "sayPlaced";
  return say(name, { letter: letterOf(position), tier, others });
}

export const positionOf = (field) => Number(/^tier_(\d+)$/.exec(field)?.[1] ?? -1);
export const focusTarget = (position) => checkedOf(`tier_${position}`);

export function draw() {
  positions().forEach((i) => {
    const tier = tierOf(i);
    const isTied = tier && positionsIn(tier).length > 1;
    article(i).dataset.tier = tier || "";
    article(i).querySelector("[data-place]").textContent = !tier ? "" : say(isTied ? "sayTierTied" : "sayTier", { tier });
  });
}

/* The zones of the bar: the tiers, then what is not placed. */
export function zones() {
  const tiers = positions().map((i) => ({ id: i + 1, label: i + 1, positions: positionsIn(i + 1), joint: "=" }));
  return [...tiers, { id: 0, label: say("sayNotPlaced"), positions: positionsIn(0), isRest: true }];
}

export const drop = place;
