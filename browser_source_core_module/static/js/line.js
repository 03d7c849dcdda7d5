// The page's line to the server: comes back by itself for ever, says what it has seen, and confirms what it shows.

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 10_000;
const PING_EVERY_MS = 10_000;
// A browser is not told when the other end is gone, so silence after a ping, or from the beginning, counts as that.
const SILENCE_MS = 8_000;
// A confirmation may be lost with the socket that it went out on; the young ones are said again on the next.
const REPEAT_ACKS_MS = 10_000;
const ACKS_AT_ONCE = 100;
const ACKS_PAUSE_MS = 100;
const RESTARTING = 1012;
const REVOKED = 4403;

export class Line {
  #url;
  // The same on every socket of this page.
  #page = Array.from(crypto.getRandomValues(new Uint8Array(16)), (each) => each.toString(16).padStart(2, "0")).join("");
  #heard;
  #socket = null;
  #lastSeq = 0;
  #control = null;
  #hidden = false;
  #failures = 0;
  #acks = new Map();
  #unsent = [];
  #sending = null;
  #pinging = null;
  #silence = null;

  /** `heard` has functions named for the frames: hello, item, control, lead, and away for when the line is cut. */
  constructor(url, heard) {
    this.#url = url;
    this.#heard = heard;
  }

  open() {
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#expectWord();
    socket.onmessage = (event) => this.#hear(socket, JSON.parse(event.data));
    socket.onclose = (event) => this.#closed(socket, event.code);
  }

  /** Say how far an item is: received, shown or done. */
  acknowledge(seq, state) {
    this.#acks.delete(seq);
    this.#acks.set(seq, { state, at: performance.now() });
    this.#unsent.push(seq);
    this.#drain();
  }

  /** Say what plays here, and how far it is. Lost with the line; it is said again to whoever makes this page lead. */
  playing(report) {
    this.#send({ type: "playing", ...report });
  }

  setHidden(hidden) {
    if (hidden !== this.#hidden) {
      this.#hidden = hidden;
      this.#ping();
    }
  }

  report(message) {
    this.#send({ type: "error", message: String(message).slice(0, 300) });
  }

  #hear(socket, frame) {
    if (socket !== this.#socket) return;
    clearTimeout(this.#silence);
    if (frame.type === "hello") {
      this.#failures = 0;
      this.#heard.hello(frame);
      this.#introduce(frame);
    } else if (frame.type === "item") {
      this.#lastSeq = Math.max(this.#lastSeq, frame.seq);
      this.#heard.item(frame);
    } else if (frame.type === "control") {
      this.#control = Math.max(this.#control ?? 0, frame.number ?? 0);
      this.#heard.control(frame);
    } else if (frame.type === "lead") {
      this.#heard.lead(frame.leads);
    } else if (frame.type === "pong") {
      this.#heard.pages(frame.pages);
    }
  }

  #introduce(hello) {
    // A queue that counts anew, as after a restored backup, knows nothing of what was seen before.
    if (hello.resume_from < this.#lastSeq) this.#lastSeq = 0;
    const hidden = this.#hidden;
    // Confirmations first: what was shown is not sent again.
    this.#repeatAcks();
    this.#send({ type: "hello", last_seq: this.#lastSeq, control: this.#control, hidden, page: this.#page });
    this.#control ??= hello.control;
    clearInterval(this.#pinging);
    this.#pinging = setInterval(() => this.#ping(), PING_EVERY_MS);
  }

  #repeatAcks() {
    const young = performance.now() - REPEAT_ACKS_MS;
    for (const [seq, ack] of this.#acks) {
      if (ack.at >= young && !this.#unsent.includes(seq)) this.#unsent.push(seq);
    }
    this.#drain();
  }

  #drain() {
    if (this.#sending || !this.#isOpen()) return;
    for (const seq of new Set(this.#unsent.splice(0, ACKS_AT_ONCE))) {
      const ack = this.#acks.get(seq);
      if (ack) this.#send({ type: "ack", seq, state: ack.state });
    }
    this.#forgetOldAcks();
    if (this.#unsent.length) {
      this.#sending = setTimeout(() => {
        this.#sending = null;
        this.#drain();
      }, ACKS_PAUSE_MS);
    }
  }

  #forgetOldAcks() {
    const young = performance.now() - REPEAT_ACKS_MS;
    const waiting = new Set(this.#unsent);
    for (const [seq, ack] of this.#acks) {
      if (ack.at >= young) return;
      if (!waiting.has(seq)) this.#acks.delete(seq);
    }
  }

  #ping() {
    if (!this.#isOpen()) return;
    this.#send({ type: "ping", hidden: this.#hidden });
    this.#expectWord();
  }

  /** Give up on this socket, and try another, unless something is heard on it soon. */
  #expectWord() {
    clearTimeout(this.#silence);
    const socket = this.#socket;
    this.#silence = setTimeout(() => this.#closed(socket, 0), SILENCE_MS);
  }

  #closed(socket, code) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    socket.onclose = null;
    socket.close();
    clearInterval(this.#pinging);
    clearTimeout(this.#silence);
    this.#heard.away();
    setTimeout(() => this.open(), this.#pause(code));
  }

  /** Soon at first, later each time, and never all pages at the same moment. */
  #pause(code) {
    const longest = code === REVOKED ? 60_000 : LONGEST_WAIT_MS;
    const wait = code === REVOKED ? longest : Math.min(FIRST_WAIT_MS * 1.7 ** this.#failures, longest);
    this.#failures = code === RESTARTING ? 0 : this.#failures + 1;
    return wait * (0.5 + Math.random());
  }

  #isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  #send(frame) {
    if (this.#isOpen()) this.#socket.send(JSON.stringify(frame));
  }
}
