// Media: what plays now as a card, and clips, videos and images as a picture with a caption.

import { Music } from "./music.js";
import { countDown, isMuted, markTest, start, transition } from "./overlay.js";

// Where Twitch's player of clips is, and how long a picture stands in for a clip that may not be played here.
const { clips: CLIPS } = JSON.parse(document.getElementById("settings").textContent);
const POSTER_MS = 10_000;
// What is not there by then will not come: it must not cover the stream for its whole time.
const LOADED_WITHIN_MS = 10_000;
const SERVICES = { spotify: "spotify", youtube: "youtube", "youtube music": "youtube", twitch: "twitch" };

class Media {
  #card = new Card(document.querySelector(".card"));
  #screen = new Screen(document.querySelector(".screen"));
  #music;

  constructor(line, settings) {
    this.#music = new Music(document.querySelector(".player"), line, settings);
  }

  // What is heard goes on beside what is shown.
  hear = (item) => this.#music.take(item);
  lead = (leads) => this.#music.lead(leads);
  alone = (pages) => this.#music.alone(pages);

  show(item, finish) {
    return this.#place(item).show(item, finish);
  }

  async hide(item, next) {
    // The next track takes over the card; everything else comes on an empty stage.
    if (isMusic(item) && next && isMusic(next)) return;
    await this.#place(item).hide(item);
  }

  /** What plays now is a state: the newest of it counts. */
  givesWay(item) {
    return isMusic(item);
  }

  #place(item) {
    return isMusic(item) ? this.#card : this.#screen;
  }
}

/** Now playing. */
class Card {
  #root;
  #shown = null;
  #ticking = null;

  constructor(root) {
    this.#root = root;
  }

  show(item) {
    const { data } = item;
    const isSame = this.#shown && sameTrack(this.#shown, data);
    const isNew = !this.#shown;
    this.#shown = data;
    if (!isSame) this.#fill(data);
    markTest(this.#root, item);
    this.#root.hidden = false;
    this.#root.classList.toggle("paused", !data.is_playing);
    this.#progress(data);
    if (isNew) transition(this.#root, "entering", item);
    else if (!isSame) transition(this.#root, "changing", item);
    return 0;
  }

  async hide(item) {
    clearInterval(this.#ticking);
    await transition(this.#root, "leaving", item);
    this.#root.hidden = true;
    this.#shown = null;
  }

  #fill(data) {
    this.#set(".title", data.title || "Unknown title");
    this.#set(".artist", data.artist);
    this.#set(".album", data.album);
    this.#set(".requested", data.requested_by && `for ${data.requested_by}`);
    this.#set(".service .name", data.service);
    this.#root.querySelector(".service").dataset.service = SERVICES[data.service.toLowerCase()] ?? "other";
    loadArt(this.#root.querySelector(".art"), data.artwork_url);
  }

  #set(selector, text) {
    const element = this.#root.querySelector(selector);
    element.textContent = text;
    element.hidden = !text;
  }

  /** Let the bar run by itself from where the track is; the compositor moves it, not a timer. */
  #progress(data) {
    clearInterval(this.#ticking);
    const bar = this.#root.querySelector(".progress");
    bar.hidden = !data.duration_ms;
    this.#root.querySelector(".times").hidden = bar.hidden;
    if (bar.hidden) return;
    const elapsed = this.#root.querySelector(".elapsed");
    const total = this.#root.querySelector(".total");
    const done = bar.querySelector(".done");
    for (const animation of done.getAnimations()) animation.cancel();
    const run = done.animate({ transform: ["scaleX(0)", "scaleX(1)"] }, { duration: data.duration_ms, fill: "both" });
    run.currentTime = Math.min(data.progress_ms, data.duration_ms);
    total.textContent = asTime(data.duration_ms);
    const tell = () => {
      elapsed.textContent = asTime(run.currentTime);
    };
    tell();
    if (data.is_playing) this.#ticking = setInterval(tell, 1000);
    else run.pause();
  }
}

/** Clips, videos and images. */
class Screen {
  #root;
  #frame;

  constructor(root) {
    this.#root = root;
    this.#frame = root.querySelector(".frame");
  }

  show(item, finish) {
    const { data } = item;
    this.#root.querySelector(".title").textContent = data.title;
    this.#root.querySelector(".artist").textContent = data.artist;
    this.#root.querySelector(".caption").hidden = !data.title && !data.artist;
    this.#root.classList.toggle("full", data.media_type === "clip");
    this.#frame.replaceChildren(this.#picture(data, finish));
    markTest(this.#root, item);
    countDown(this.#root.querySelector(".countdown"), item);
    this.#root.hidden = false;
    transition(this.#root, "entering", item);
    return 0;
  }

  async hide(item) {
    await transition(this.#root, "leaving", item);
    this.#frame.replaceChildren();
    this.#root.hidden = true;
  }

  #picture(data, finish) {
    if (data.media_type === "image" && data.media_url) return orFinish(image(data.media_url), "load", finish);
    if (data.media_url && isHostedClip(data.media_url)) return mayPlayClips() ? player(data, finish) : poster(data, finish);
    if (data.media_type !== "image" && data.media_url) return video(data.media_url, finish);
    return artwork(data, finish);
  }
}

function isMusic(item) {
  return item.data.media_type === "music";
}

function sameTrack(one, other) {
  return ["service", "title", "artist", "album", "artwork_url"].every((name) => one[name] === other[name]);
}

function loadArt(box, url) {
  const old = box.querySelector("img");
  if (!url) {
    old?.remove();
    return;
  }
  const art = image(url);
  art.onload = () => {
    old?.remove();
    art.classList.add("loaded");
  };
  art.onerror = () => art.remove();
  box.append(art);
}

function image(url) {
  return Object.assign(new Image(), { src: url, alt: "", decoding: "async" });
}

function video(url, finish) {
  const element = Object.assign(document.createElement("video"), { src: url, autoplay: true, playsInline: true, muted: isMuted() });
  element.onended = finish;
  orFinish(element, "loadeddata", finish);
  // OBS lets a page play sound; a browser that somebody tries the overlay in does not.
  element.play().catch(() => {
    element.muted = true;
    element.play().catch(() => {});
  });
  return element;
}

function isHostedClip(url) {
  return new URL(url).origin === CLIPS;
}

/** Twitch lets pages play its clips that came by https, and those of this very machine. */
function mayPlayClips() {
  return location.protocol === "https:" || ["localhost", "127.0.0.1"].includes(location.hostname);
}

function poster(data, finish) {
  setTimeout(finish, POSTER_MS);
  return artwork(data, finish);
}

/** What stands for media that cannot be shown; where there is none either, there is nothing to wait for. */
function artwork(data, finish) {
  if (data.artwork_url) return orFinish(image(data.artwork_url), "load", finish);
  setTimeout(finish);
  return document.createElement("div");
}

/** End the item once it is known that this does not load. */
function orFinish(media, loaded, finish) {
  const waiting = setTimeout(finish, LOADED_WITHIN_MS);
  media.addEventListener(loaded, () => clearTimeout(waiting), { once: true });
  media.addEventListener("error", () => {
    clearTimeout(waiting);
    finish();
  });
  return media;
}

/**
 * Twitch shows its clips in a player of its own, which wants to know every page that it is in by name, and by referrer.
 * It tells nobody when a clip is over, so that is counted from when the player is there.
 */
function player(data, finish) {
  const source = new URL(data.media_url);
  const pages = [location.origin, ...(location.ancestorOrigins ?? [])].map((each) => new URL(each).hostname);
  for (const page of new Set(pages)) source.searchParams.append("parent", page);
  source.searchParams.set("autoplay", "true");
  source.searchParams.set("muted", String(isMuted() || !mayBeHeard()));
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts allow-same-origin";
  frame.allow = "autoplay";
  frame.referrerPolicy = "strict-origin-when-cross-origin";
  if (data.duration_ms) frame.onload = () => setTimeout(finish, data.duration_ms);
  frame.src = source.href;
  return frame;
}

/** OBS lets a page be heard at once; a browser waits for a click, and plays nothing by itself that is not muted. */
function mayBeHeard() {
  const context = new AudioContext();
  const { state } = context;
  context.close();
  return state === "running";
}

function asTime(ms) {
  const seconds = Math.floor(ms / 1000);
  const minutes = Math.floor(seconds / 60);
  const rest = String(seconds % 60).padStart(2, "0");
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

start((line, settings) => new Media(line, settings));
