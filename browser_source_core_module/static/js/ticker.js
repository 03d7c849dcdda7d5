// The ticker: one line at the edge of the screen. What fits stands still; what is longer runs through.

import { calm, markTest, start, transition } from "./overlay.js";

const PIXELS_PER_S = 140;
// Time to begin reading, and to finish, before and after the text runs.
const HOLD_MS = 900;

class Ticker {
  #bar = document.querySelector(".bar");
  #icon = this.#bar.querySelector("use");
  #window = this.#bar.querySelector(".window");
  #text = this.#bar.querySelector(".text");
  #running = null;

  show(item) {
    this.#bar.dataset.style = item.data.style;
    this.#icon.setAttribute("href", `#icon-${item.data.style}`);
    this.#text.textContent = item.data.text;
    this.#text.classList.toggle("still", calm());
    markTest(this.#bar, item);
    this.#bar.hidden = false;
    transition(this.#bar, "entering", item);
    return this.#scroll(item);
  }

  async hide(item) {
    await transition(this.#bar, "leaving", item);
    this.#running?.cancel();
    this.#running = null;
    this.#bar.hidden = true;
  }

  givesWay() {
    return false;
  }

  /** Run the text through its window, and return how long that takes. */
  #scroll(item) {
    this.#bar.classList.remove("long");
    const isLong = this.#text.offsetWidth > this.#window.clientWidth && !calm();
    this.#bar.classList.toggle("long", isLong);
    if (!isLong) return 0;
    const distance = this.#text.offsetWidth - this.#window.clientWidth;
    const speed = PIXELS_PER_S * Number(getComputedStyle(this.#bar).getPropertyValue("--speed") || 1);
    const scale = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
    const duration = Math.max(item.display_s * 1000, 2 * HOLD_MS + (distance / (speed * scale)) * 1000);
    const isRightToLeft = getComputedStyle(this.#text).direction === "rtl";
    const end = `translateX(${isRightToLeft ? distance : -distance}px)`;
    const hold = HOLD_MS / duration;
    this.#running = this.#text.animate(
      [
        { transform: "none" },
        { transform: "none", offset: hold },
        { transform: end, offset: 1 - hold },
        { transform: end },
      ],
      { duration, fill: "forwards" },
    );
    return duration;
  }
}

start(() => new Ticker());
