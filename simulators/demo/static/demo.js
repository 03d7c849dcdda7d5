// The demo's page: chats that are fed by one stream of server-sent events, and requests that say and do things.

const EMPTY = "Nobody has said anything yet. Pick a suggestion below, or type.";
// How wide the stream is that the overlays believe in.
const STREAM_WIDTH = 800;
const MOST_LINES = 300;
const NEAR_BOTTOM_PX = 60;
const ASK_AGAIN_MS = 700;
// An alert is over by then, and the next one most likely has not come.
const BUSY_MS = 12000;

// Who speaks at which level, unless somebody else is named.
const CAST = {
  viewer: "Pip", member: "Pip", subscriber: "Suki", booster: "Suki", vip: "Vito", moderator: "Mona",
  admin: "Mona", administrator: "Ada", broadcaster: "Waddle", owner: "Waddle",
};
// Those who may change things, on each platform.
const HELPER = { twitch: "moderator", discord: "moderator", slack: "admin" };
const BADGES = {
  subscriber: "SUB", booster: "BOOST", vip: "VIP", moderator: "MOD", admin: "ADMIN", administrator: "ADMIN",
  broadcaster: "HOST", owner: "OWNER",
};
const ADD_SWORD = '!inventory add sword "A shiny sword"';
const CHIPS = {
  twitch: [[ADD_SWORD, true], ["!points"], ["#roll 20"], ["!spotify play blue lagoon", true], ["!sr icebreaker"], ["!song"], ["#song Waddle On"], ["#shout Hello, stream!", true], ["!help"]],
  discord: [["!inventory list"], ["/points"], ["#game rock"], ["#quote add It works on my machine"], ["!leaderboard"], ["!help"]],
  slack: [["/waddlebot help"], ["!inventory status sword"], ["#weather Tokyo may"], ["!points"], ["#roll 20"]],
};
const TOUR = [
  { what: "A moderator adds an item", platform: "twitch", text: ADD_SWORD, helper: true },
  { what: "Discord finds it too", platform: "discord", text: "!inventory status sword" },
  { what: "Somebody follows", platform: "twitch", event: "follow", name: "Skipper" },
  { what: "A song on the stream", platform: "twitch", text: "#song Waddle On" },
  { what: "A new command …", platform: "discord", text: '!alias add !hi "Hello, {user}!"', helper: true },
  { what: "… works on Slack too", platform: "slack", text: "!hi" },
];

const chats = new Map();
const status = document.querySelector(".status");

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// What Discord and Slack make of stars and backticks, in elements of our own.
function formatted(text) {
  const parts = text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*|\*[^*\s][^*\n]*\*)/);
  return parts.map((part, n) => {
    if (n % 2 === 0) return part;
    const tag = part.startsWith("`") ? "code" : "strong";
    return make(tag, "", part.replace(/^(`|\*+)|(`|\*+)$/g, ""));
  });
}

function hueOf(name) {
  let hash = 7;
  for (const c of name.toLowerCase()) hash = (hash * 31 + c.codePointAt(0)) % 360;
  return hash;
}

function show(state, text) {
  status.dataset.status = state;
  status.textContent = text;
}

async function post(path, body) {
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (answer.ok) return;
    chats.get(body.platform).add({ kind: "problem", text: await answer.text() });
  } catch {
    chats.get(body.platform).add({ kind: "problem", text: "The demo does not answer. Is it still running?" });
  }
}

class Chat {
  constructor(platform) {
    this.name = platform.name;
    this.said = new Map();
    this.history = [];
    this.back = 0;
    this.follows = true;
    this.root = document.getElementById("chat").content.firstElementChild.cloneNode(true);
    this.log = this.root.querySelector(".log");
    this.form = this.root.querySelector("form");
    this.root.id = `chat-${platform.name}`;
    this.root.dataset.platform = platform.name;
    this.root.setAttribute("aria-label", `${platform.title} chat`);
    this.root.querySelector(".title").textContent = platform.title;
    this.root.querySelector(".place").textContent = platform.place;
    this.log.dataset.empty = EMPTY;
    this.log.setAttribute("aria-label", `${platform.title}: what is said`);
    this.fields = this.form.elements;
    this.fields.text.placeholder = "Say something";
    this.fields.level.append(...platform.levels.map((each) => new Option(each.title, each.id)));
    this.fields.name.value = CAST[this.fields.level.value];
    this.addEvents(platform);
    this.addChips();
    this.addHandlers();
  }

  addEvents(platform) {
    const events = this.root.querySelector(".events");
    events.setAttribute("aria-label", `Make something happen on ${platform.title}`);
    for (const each of platform.events) {
      const button = make("button", "", each.title);
      button.type = "button";
      button.dataset.event = each.id;
      button.addEventListener("click", () => this.happen(each.id));
      events.append(button);
    }
  }

  addChips() {
    const chips = this.root.querySelector(".chips");
    for (const [text, helper] of CHIPS[this.name] ?? []) {
      const button = make("button", "", text);
      button.type = "button";
      button.title = helper ? `Say this as a ${HELPER[this.name]}` : "Say this";
      button.addEventListener("click", () => this.sayAs(text, helper && HELPER[this.name]));
      chips.append(button);
    }
  }

  addHandlers() {
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = this.fields.text.value.trim();
      if (!text) return;
      this.fields.text.value = "";
      this.say(text);
    });
    this.fields.level.addEventListener("change", () => {
      if (Object.values(CAST).includes(this.fields.name.value)) this.beAt(this.fields.level.value);
    });
    this.fields.text.addEventListener("keydown", (event) => this.recall(event));
    // The last line stays in sight unless somebody reads further up.
    this.log.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.log;
      this.follows = scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM_PX;
    });
    new ResizeObserver(() => this.follow()).observe(this.log);
  }

  get person() {
    const { name, level } = this.fields;
    return { platform: this.name, name: name.value.trim() || CAST[level.value], level: level.value };
  }

  beAt(level) {
    this.fields.level.value = level;
    this.fields.name.value = CAST[level];
  }

  sayAs(text, level) {
    if (level) this.beAt(level);
    this.say(text);
  }

  say(text) {
    this.history.push(text);
    this.back = 0;
    this.follows = true;
    post("/say", { ...this.person, text });
  }

  happen(event, name = this.person.name) {
    this.follows = true;
    post("/happen", { ...this.person, name, event });
  }

  follow() {
    if (this.follows) this.log.scrollTop = this.log.scrollHeight;
  }

  recall(event) {
    const step = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!step || !this.history.length) return;
    event.preventDefault();
    this.back = Math.min(Math.max(this.back + step, 0), this.history.length);
    this.fields.text.value = this.back ? this.history.at(-this.back) : "";
  }

  add(line) {
    const { log } = this;
    log.append(this.element(line));
    while (log.childElementCount > MOST_LINES) log.firstElementChild.remove();
    if (line.id) this.said.set(line.id, line);
    this.follow();
    if (!this.root.classList.contains("shown")) this.tab.classList.add("news");
  }

  element(line) {
    const item = make("li", line.kind === "chat" ? "person" : line.kind);
    if (line.kind === "problem") {
      item.textContent = line.text;
      return item;
    }
    const parent = this.said.get(line.reply_to);
    if (parent) item.append(make("span", "quote", `${parent.name}: ${parent.text}`));
    const name = make("span", "name", line.name);
    name.style.setProperty("--hue", hueOf(line.name));
    item.append(name);
    if (BADGES[line.level]) item.append(make("span", "badge", BADGES[line.level]));
    if (line.kind === "bot") item.append(make("span", "badge", "BOT"));
    if (line.is_private) item.append(make("span", "badge", "only they see this"));
    const isFormatted = line.kind === "bot" && this.name !== "twitch";
    item.append(" ", ...(isFormatted ? formatted(line.text) : [line.text]));
    return item;
  }

  clear() {
    this.log.replaceChildren();
    this.said.clear();
  }
}

function addTabs(platforms) {
  const tabs = document.querySelector(".tabs");
  for (const { name, title } of platforms) {
    const tab = make("button", "", title);
    tab.type = "button";
    tab.role = "tab";
    tab.setAttribute("aria-controls", `chat-${name}`);
    tab.addEventListener("click", () => select(name));
    chats.get(name).tab = tab;
    tabs.append(tab);
  }
}

function select(name) {
  for (const [each, chat] of chats) {
    chat.root.classList.toggle("shown", each === name);
    chat.tab.setAttribute("aria-selected", String(each === name));
  }
  const chat = chats.get(name);
  chat.tab.classList.remove("news");
  chat.follow();
}

function addTour() {
  const list = document.querySelector(".tour ol");
  for (const step of TOUR.filter((each) => chats.has(each.platform))) {
    const chat = chats.get(step.platform);
    const item = make("li");
    const button = make("button");
    const tick = make("span", "tick", String(list.childElementCount + 1));
    const title = chat.root.querySelector(".title").textContent;
    button.type = "button";
    button.title = step.text ?? "";
    button.append(tick, make("span", "what-for", step.what), make("span", "how", step.text ?? `${step.event} on ${title}`));
    button.addEventListener("click", () => {
      select(step.platform);
      const anybody = chat.fields.level.options[0].value;
      if (step.event) chat.happen(step.event, step.name);
      else chat.sayAs(step.text, step.helper ? HELPER[step.platform] : anybody);
      item.className = "done";
      tick.textContent = "✓";
    });
    item.append(button);
    list.append(item);
  }
}

function addOverlays(overlays) {
  const screen = document.querySelector(".screen");
  const links = document.querySelector(".links");
  screen.replaceChildren(make("p", "idle", "Nothing is on stream. Follow, cheer or raid on Twitch, or take step 4."));
  for (const [name, url] of Object.entries(overlays)) {
    const frame = make("iframe");
    frame.src = url;
    frame.className = name;
    frame.title = `The ${name} overlay`;
    frame.tabIndex = -1;
    screen.append(frame);
    const link = make("a", "", name);
    link.href = url;
    link.target = "_blank";
    link.rel = "noopener";
    links.append(links.childElementCount ? " · " : "", link);
  }
}

/* An empty stage says how something gets onto it, and makes way for what does. */
function beBusy() {
  const idle = document.querySelector(".idle");
  if (!idle) return;
  idle.classList.add("busy");
  clearTimeout(beBusy.timer);
  beBusy.timer = setTimeout(() => idle.classList.remove("busy"), BUSY_MS);
}

function keepScale() {
  const screen = document.querySelector(".screen");
  new ResizeObserver(() => {
    screen.style.setProperty("--scale", String(screen.clientWidth / STREAM_WIDTH));
  }).observe(screen);
}

function listen() {
  const stream = new EventSource("/stream");
  stream.addEventListener("begin", () => chats.forEach((chat) => chat.clear()));
  stream.addEventListener("message", (event) => {
    const line = JSON.parse(event.data);
    chats.get(line.platform)?.add(line);
    beBusy();
  });
  stream.addEventListener("open", () => show("ready", "Running"));
  stream.addEventListener("error", () => show("gone", "Gone. Waiting for it to come back …"));
}

function addKeys() {
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, select, textarea");
    if (event.key === "Escape") event.target.blur();
    const chat = [...chats.values()][Number(event.key) - 1];
    if (!chat || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    select(chat.name);
    chat.fields.text.focus();
  });
  document.querySelector(".theme").addEventListener("click", () => {
    const root = document.documentElement;
    const isDark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
  });
}

async function state() {
  for (;;) {
    try {
      const answer = await fetch("/state");
      const found = await answer.json();
      if (Object.keys(found.overlays).length) return found;
    } catch {
      // It is being started again.
    }
    await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
  }
}

const found = await state();
for (const platform of found.platforms) {
  const chat = new Chat(platform);
  chats.set(platform.name, chat);
  document.querySelector(".chats").append(chat.root);
}
addTabs(found.platforms);
addTour();
addKeys();
keepScale();
addOverlays(found.overlays);
select(found.platforms[0].name);
if (matchMedia("(min-width: 761px)").matches) chats.get(found.platforms[0].name).fields.text.focus();
listen();
