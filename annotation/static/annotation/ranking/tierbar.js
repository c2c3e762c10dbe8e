/* The bar of chips: a zone for each tier (or each end of a choice) and one for the rest; a chip can be dragged. */
const FAR_ENOUGH = 5;

/* `zones` are {id, label, positions, joint, isRest}; what stands between chips of a zone is its joint. */
export function drawTierBar(bar, zones, letterOf, current) {
  bar.replaceChildren(...zones.map((zone) => zoneBox(zone, letterOf, current)));
}

function zoneBox({ id, label, positions, joint, isRest }, letterOf, current) {
  const box = document.createElement("div");
  box.className = `zone${isRest ? " none" : ""}${positions.length ? "" : " bare"}`;
  box.dataset.tier = id;
  box.append(span("zone-label", label));
  positions.forEach((position, i) => {
    if (i && joint) box.append(span("tie", joint));
    box.append(chip(position, letterOf(position), position === current));
  });
  return box;
}

function span(className, text) {
  return Object.assign(document.createElement("span"), { className, textContent: text });
}

function chip(position, letter, isCurrent) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = `chip${isCurrent ? " current" : ""}`;
  button.dataset.position = position;
  button.textContent = letter;
  return button;
}

/* Dragging by pointer, so that mouse, pen and finger do the same; a press without a drag focuses the response. */
export function watchDrag(bar, { drop, focus }) {
  let drag = null;
  bar.addEventListener("pointerdown", (event) => {
    const grabbed = event.target.closest(".chip");
    if (!grabbed || event.button !== 0) return;
    event.preventDefault();
    drag = { chip: grabbed, x: event.clientX, y: event.clientY, moved: false };
    bar.setPointerCapture(event.pointerId);
  });
  bar.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    drag.moved ||= Math.hypot(dx, dy) > FAR_ENOUGH;
    if (!drag.moved) return;
    drag.chip.classList.add("dragged");
    drag.chip.style.transform = `translate(${dx}px, ${dy}px)`;
    markZone(bar, zoneUnder(bar, event));
  });
  bar.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const { chip: dropped, moved } = drag;
    const target = moved ? zoneUnder(bar, event) : null;
    drag = null;
    const position = Number(dropped.dataset.position);
    if (target) drop(position, target.dataset.tier);
    settle(bar, dropped);
    focus(position);
  });
  bar.addEventListener("pointercancel", () => {
    if (drag) settle(bar, drag.chip);
    drag = null;
  });
  bar.addEventListener("click", (event) => { // by keyboard or assistive technology
    const pressed = event.target.closest(".chip");
    if (pressed && event.detail === 0) focus(Number(pressed.dataset.position));
  });
}

function settle(bar, dragged) {
  dragged.classList.remove("dragged");
  dragged.style.transform = "";
  markZone(bar, null);
}

function zoneUnder(bar, event) {
  return [...bar.querySelectorAll(".zone")].find((box) => {
    const area = box.getBoundingClientRect();
    return event.clientX >= area.left && event.clientX <= area.right && event.clientY >= area.top && event.clientY <= area.bottom;
  });
}

function markZone(bar, target) {
  bar.querySelectorAll(".zone").forEach((box) => box.classList.toggle("target", box === target));
}
