/* Active time: what passes while the tab is visible and something was done within the last minute. Also when the last
 * sign of life came, for what should go on only while somebody is at work.
 */
const IDLE_AFTER = 60_000;
const SIGNS_OF_LIFE = ["keydown", "pointerdown", "pointermove", "wheel", "scroll", "touchstart", "focusin"];

export class ActiveClock {
  constructor(now = () => performance.now()) {
    this.now = now;
    this.lastSign = this.now();
    this.restart();
    for (const name of SIGNS_OF_LIFE) addEventListener(name, () => this.signOfLife(), { passive: true, capture: true });
    document.addEventListener("visibilitychange", () => (document.hidden ? this.pause() : this.resume()));
  }

  /* `from` is what was counted before, for a slate whose draft is gone on with. */
  restart(from = 0) {
    this.counted = from;
    this.last = document.hidden ? null : this.now();
  }

  signOfLife() {
    this.lastSign = this.now();
    this.touch();
  }

  wasActiveWithin(milliseconds) {
    return this.now() - this.lastSign <= milliseconds;
  }

  /* Count the time since the last sign of life; of a longer silence only its first minute. */
  touch() {
    if (this.last === null) return;
    const at = this.now();
    this.counted += Math.min(at - this.last, IDLE_AFTER);
    this.last = at;
  }

  pause() {
    this.touch();
    this.last = null;
  }

  resume() {
    this.last = this.now();
  }

  milliseconds() {
    this.touch();
    return Math.round(this.counted);
  }
}
