// Plays items one after the other on a stage: by priority, then in their order, each once.

// What a page remembers to know an item that comes again.
const REMEMBERED = 5000;
const NOTE_MS = 2500;

/**
 * A stage has
 *   show(item, finish)  puts an item on the screen and returns how long it needs at least, in ms;
 *                       `finish` may be called to end it early
 *   hide(item, next)    takes it off, and returns a promise for when it is gone
 *   staysFor(item, n)   optional: for how many seconds an item is shown when n others wait
 *   givesWay(item)      whether the item ends as soon as another one waits
 *   note(item, text)    optional: shows what has become of the item
 */
export class Player {
  #stage;
  #line;
  #waiting = [];
  #states = new Map();
  #current = null;
  #paused = false;
  #hidden = false;
  #running = false;

  constructor(stage, line) {
    this.#stage = stage;
    this.#line = line;
  }

  take(item) {
    const known = this.#states.get(item.seq);
    if (known && !this.#isOneAfterReset(item)) {
      this.#line.acknowledge(item.seq, known.state);
      return;
    }
    item.priority = item.data.priority ?? 5;
    item.deadline = performance.now() + item.expires_in_s * 1000;
    this.#mark(item, "received");
    const place = this.#waiting.findIndex((each) => each.priority > item.priority);
    this.#waiting.splice(place < 0 ? this.#waiting.length : place, 0, item);
    if (this.#current && this.#givesWay(this.#current.item)) this.#current.cut();
    this.#run();
  }

  control(frame) {
    if (frame.action === "pause") this.#paused = true;
    if (frame.action === "resume") this.#paused = false;
    if (frame.action === "skip") this.#skip(frame);
    if (frame.action === "clear") this.#clear();
    this.#run();
  }

  setPaused(paused) {
    this.#paused = paused;
    this.#run();
  }

  setHidden(hidden) {
    this.#hidden = hidden;
    this.#run();
  }

  #isOneAfterReset(item) {
    return this.#states.get(item.seq).itemId !== item.item_id;
  }

  #givesWay(item) {
    return item.display_s === 0 || this.#stage.givesWay(item);
  }

  #skip(frame) {
    this.#waiting = this.#waiting.filter((each) => each.seq !== frame.seq);
    const current = this.#current;
    if (!current || (frame.seq !== undefined && frame.seq !== current.item.seq)) return;
    if (frame.note && this.#stage.note) {
      this.#stage.note(current.item, frame.note);
      setTimeout(current.cut, NOTE_MS);
    } else {
      current.cut();
    }
  }

  #clear() {
    this.#waiting = [];
    this.#current?.cut();
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    try {
      for (let item = this.#next(); item; item = this.#next()) await this.#play(item);
    } finally {
      this.#running = false;
    }
  }

  /** What is to be played now: nothing while nobody can see it. */
  #next() {
    if (this.#paused || this.#hidden) return undefined;
    const now = performance.now();
    this.#waiting = this.#waiting.filter((each) => each.deadline > now);
    return this.#waiting.shift();
  }

  async #play(item) {
    try {
      const cut = new Promise((resolve) => {
        this.#current = { item, cut: resolve };
      });
      item.display_s = this.#stage.staysFor?.(item, this.#waiting.length) ?? item.display_s;
      const needed = this.#stage.show(item, this.#current.cut);
      await drawn();
      this.#mark(item, "shown");
      if (!(this.#givesWay(item) && this.#waiting.length)) await this.#stay(item, needed, cut);
      await this.#stage.hide(item, this.#waiting[0]);
    } catch (error) {
      this.#line.report(`${item.action}: ${error}`);
    } finally {
      this.#current = null;
      this.#mark(item, "done");
    }
  }

  #stay(item, needed, cut) {
    if (item.display_s === 0) return cut;
    return Promise.race([cut, after(Math.max(item.display_s * 1000, needed))]);
  }

  #mark(item, state) {
    this.#states.delete(item.seq);
    this.#states.set(item.seq, { state, itemId: item.item_id });
    if (this.#states.size > REMEMBERED) this.#states.delete(this.#states.keys().next().value);
    this.#line.acknowledge(item.seq, state);
  }
}

/** Resolves once a frame with the present content was drawn: the second request comes after the first one's frame. */
export function drawn() {
  return new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
}

export function after(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
