// Music: the player that is heard, and what this page says of it. It goes on whatever the overlay shows meanwhile.
//
// YouTube's player is a frame that is spoken to by messages. This is their protocol, so that no script of theirs runs here:
// the page says `listening` until the player answers, asks for events, and sends commands.

const LISTEN_EVERY_MS = 250;
const REPORT_EVERY_MS = 5_000;
// A player that has not begun by then is not let make a sound; muted it may.
const MUTE_AFTER_MS = 4_000;
// One that gets no further for so long never will. YouTube has no error of that number.
const STUCK_AFTER_MS = 30_000;
const NO_ANSWER = 0;
// So long a page whose line is cut may still be the one that leads.
const LEASE_MS = 6_000;
const ENDED = 0;
const PLAYING = 1;
const PAUSED = 2;

export class Music {
  #box;
  #line;
  #base;
  #silent;
  #leads = false;
  #track = null;
  // What was said last, for whoever makes this page lead; of a track that is over too.
  #said = null;
  #newest = 0;
  #muting = null;

  constructor(box, line, settings) {
    this.#box = box;
    this.#line = line;
    this.#base = settings.youtube;
    this.#silent = settings.muted;
    addEventListener("message", (event) => this.#track?.hear(event));
    setInterval(() => this.#track?.look(), 1000);
  }

  /** The same track is only changed, another one takes its place. */
  take(item) {
    const { data } = item;
    if (!data.track_id || item.seq < this.#newest) return;
    this.#newest = item.seq;
    const isSame = this.#track?.id === data.track_id;
    if (data.player === "youtube" && isSame) this.#track.change(item);
    else if (data.player === "youtube" && !this.#isOver(data.track_id)) this.#begin(item);
    else if (data.player === "none" && isSame) this.#end();
  }

  lead(leads) {
    clearTimeout(this.#muting);
    this.#leads = leads;
    this.#track?.setHeard(this.#isHeard);
    if (leads && this.#said) this.#line.playing(this.#said);
  }

  /** With the line away nobody can say that another page leads; where there is one it will. */
  alone(pages) {
    clearTimeout(this.#muting);
    if (pages > 1) this.#muting = setTimeout(() => this.lead(false), LEASE_MS);
  }

  get #isHeard() {
    return this.#leads && !this.#silent;
  }

  #isOver(id) {
    return this.#said?.track_id === id && ["ended", "failed"].includes(this.#said.state);
  }

  #begin(item) {
    this.#end();
    this.#track = new Track(item, this.#base, (report) => this.#tell(report), this.#isHeard);
    this.#box.replaceChildren(this.#track.frame);
    this.#box.hidden = false;
  }

  #end() {
    this.#track?.stop();
    this.#track = null;
    this.#box.hidden = true;
    this.#box.replaceChildren();
  }

  #tell(report) {
    this.#said = report;
    if (this.#leads) this.#line.playing(report);
    if (report.state === "ended" || report.state === "failed") this.#end();
  }
}

/** One track in YouTube's player. */
class Track {
  #item;
  #tell;
  #isHeard;
  #origin;
  #state = -1;
  #positionMs;
  #listening;
  #answered = false;
  // Whether the browser lets it be heard; it is found out by trying.
  #isAllowed = true;
  #movedAt = performance.now();
  #reportedAt = 0;

  constructor(item, base, tell, isHeard) {
    this.#item = item;
    this.#tell = tell;
    this.#isHeard = isHeard;
    this.#positionMs = item.data.progress_ms;
    this.#origin = new URL(base).origin;
    this.frame = makeFrame(item.data, base);
    this.#listening = setInterval(() => this.#send({ event: "listening" }), LISTEN_EVERY_MS);
  }

  get id() {
    return this.#item.data.track_id;
  }

  change(item) {
    this.#item = item;
    this.#movedAt = performance.now();
    this.#apply();
  }

  setHeard(isHeard) {
    this.#isHeard = isHeard;
    this.#applySound();
  }

  stop() {
    clearInterval(this.#listening);
  }

  hear({ source, origin, data }) {
    if (source !== this.frame.contentWindow || origin !== this.#origin) return;
    const said = parse(data);
    if (!said) return;
    if (!this.#answered) this.#greet();
    if (said.event === "onError") this.#report("failed", Number(said.info) || NO_ANSWER);
    else if (said.event === "onReady") this.#apply();
    else if (said.event === "onStateChange") this.#enter(said.info);
    else if (said.info && typeof said.info === "object") this.#note(said.info);
  }

  /** Once a second: whether it gets on, and how far it is. */
  look() {
    const now = performance.now();
    const stands = now - this.#movedAt;
    if (!this.#item.data.is_playing) return;
    if (stands > STUCK_AFTER_MS) this.#report("failed", NO_ANSWER);
    else if (this.#state !== PLAYING && stands > MUTE_AFTER_MS && this.#answered && this.#isAllowed) this.#goSilent();
    else if (this.#state === PLAYING && now - this.#reportedAt > REPORT_EVERY_MS) this.#report("started");
  }

  #greet() {
    this.#answered = true;
    clearInterval(this.#listening);
    for (const name of ["onReady", "onStateChange", "onError"]) this.#command("addEventListener", name);
    this.#apply();
  }

  #note(info) {
    if (typeof info.currentTime === "number") {
      const at = Math.round(info.currentTime * 1000);
      if (at !== this.#positionMs) this.#movedAt = performance.now();
      this.#positionMs = at;
    }
    if (typeof info.playerState === "number") this.#enter(info.playerState);
  }

  #enter(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#movedAt = performance.now();
    if (state === ENDED) this.#report("ended");
    else if (state === PLAYING && !this.#item.data.is_playing) this.#command("pauseVideo");
    else if (state === PLAYING) this.#report("started");
    else if (state === PAUSED && !this.#item.data.is_playing) this.#report("paused");
    else if (state === PAUSED && this.#isAllowed) this.#goSilent();
    else if (state === PAUSED) this.#report("paused");
  }

  #apply() {
    this.#applySound();
    this.#command(this.#item.data.is_playing ? "playVideo" : "pauseVideo");
  }

  #applySound() {
    const { volume, muted } = this.#item.data;
    this.#command("setVolume", volume);
    this.#command(this.#isHeard && this.#isAllowed && !muted ? "unMute" : "mute");
  }

  /** A browser that nobody has clicked into lets nothing be heard; OBS does. */
  #goSilent() {
    this.#isAllowed = false;
    this.#apply();
  }

  #report(state, code = 0) {
    this.#reportedAt = performance.now();
    this.#tell({ seq: this.#item.seq, track_id: this.id, state, position_ms: this.#positionMs, code });
  }

  #command(func, ...args) {
    this.#send({ event: "command", func, args });
  }

  #send(message) {
    this.frame.contentWindow?.postMessage(JSON.stringify({ ...message, id: 1, channel: "widget" }), this.#origin);
  }
}

/** It begins muted: a page that does not lead stays so, and one that does is heard once its volume is set. */
function makeFrame(data, base) {
  const source = new URL(`/embed/${new URL(data.media_url).searchParams.get("v")}`, base);
  const settings = {
    enablejsapi: 1,
    origin: location.origin,
    autoplay: data.is_playing ? 1 : 0,
    mute: 1,
    start: Math.floor(data.progress_ms / 1000),
    controls: 0,
    disablekb: 1,
    fs: 0,
    iv_load_policy: 3,
    playsinline: 1,
    rel: 0,
  };
  for (const [name, value] of Object.entries(settings)) source.searchParams.set(name, value);
  const frame = document.createElement("iframe");
  frame.allow = "autoplay";
  // Without a referrer YouTube answers error 153.
  frame.referrerPolicy = "strict-origin-when-cross-origin";
  frame.src = source.href;
  return frame;
}

function parse(data) {
  try {
    const said = typeof data === "string" ? JSON.parse(data) : data;
    return said && typeof said === "object" ? said : null;
  } catch {
    return null;
  }
}
