// General: announcements, alerts, forms, and a community's own HTML in a frame that nothing gets out of.

import { fitLine, forgetFit, showName } from "./names.js";
import { countDown, markTest, start, themeForFrame, transition } from "./overlay.js";
import { addPicture, playSound } from "./pictures.js";

const HEADINGS = { announcement: "Announcement", alert: "Alert", form: "Form" };
const EVENTS = {
  follow: "New follower",
  subscription: "New subscriber",
  resub: "Subscribed again",
  subgift: "Gifts",
  cheer: "Cheer",
  raid: "Raid",
  host: "Host",
  donation: "Tip",
  boost: "Boost",
  member_join: "Welcome",
};
// Where an alert may say the name.
const NAMED = [".title", ".body"];
const ICONS = { follow: "follow", subgift: "subgift", cheer: "cheer", raid: "raid", host: "raid", donation: "donation", boost: "boost" };
// When others wait an alert goes sooner, but never so soon that nobody could read it.
const READ_S = 2.5;
const PATIENT_WITH = 4;

class General {
  #panel = document.querySelector(".panel");
  #frame = document.querySelector(".own");
  #shown = null;
  #sound = null;

  show(item) {
    this.#shown = item.action === "general" && item.data.kind === "html" ? this.#showHTML(item) : this.#showPanel(item);
    markTest(this.#shown, item);
    this.#shown.hidden = false;
    if (item.data.alert) this.#fit(item.data.alert.name);
    transition(this.#shown, "entering", item);
    return 0;
  }

  /** How long an item stays when so many wait. */
  staysFor(item, waiting) {
    if (!item.data.alert || item.display_s <= READ_S) return item.display_s;
    return Math.max(READ_S, (item.display_s * PATIENT_WITH) / (PATIENT_WITH + waiting));
  }

  async hide(item) {
    await transition(this.#shown, "leaving", item);
    this.#shown.hidden = true;
    this.#sound?.pause();
    this.#sound = null;
    this.#panel.querySelector(".picture").replaceChildren();
    this.#frame.querySelector("iframe").removeAttribute("srcdoc");
  }

  givesWay() {
    return false;
  }

  /** A form that was answered says so before it goes. */
  note() {
    this.#panel.classList.add("answered");
    this.#text(".state", "Answered – thank you");
  }

  #showPanel(item) {
    const { data } = item;
    const kind = item.action === "form" ? "form" : data.kind;
    this.#panel.dataset.kind = kind;
    this.#panel.classList.remove("answered");
    const look = data.alert ?? {};
    this.#dress(look);
    this.#panel.querySelector("use").setAttribute("href", `#icon-${ICONS[look.event] ?? kind}`);
    this.#text(".heading", EVENTS[look.event] ?? HEADINGS[kind]);
    this.#text(".title", data.title);
    this.#text(".body", data.text);
    this.#text(".message", look.message ?? "");
    const fields = this.#panel.querySelector(".fields");
    fields.replaceChildren(...(data.fields ?? []).map((label) => Object.assign(document.createElement("li"), { textContent: label, dir: "auto" })));
    fields.hidden = !data.fields?.length;
    this.#text(".state", kind === "form" ? "Waiting for an answer" : "");
    countDown(this.#panel.querySelector(".countdown"), item);
    return this.#panel;
  }

  /** Give the panel an alert's colour, place, way in, picture and sound; anything else has those of the theme. */
  #dress(look) {
    const { dataset, style } = this.#panel;
    dataset.position = look.position ?? "";
    dataset.animation = look.animation ?? "";
    if (look.accent) style.setProperty("--accent", look.accent);
    else style.removeProperty("--accent");
    this.#panel.classList.remove("pictured");
    for (const place of NAMED) forgetFit(this.#panel.querySelector(place));
    if (look.image) addPicture(this.#panel, look, () => this.#fit(look.name));
    this.#sound = look.sound ? playSound(look) : null;
  }

  /** The name stands out wherever it is said, and is as large as its line takes. */
  #fit(name) {
    for (const place of NAMED) {
      const element = this.#panel.querySelector(place);
      showName(element, name);
      fitLine(element);
    }
  }

  #showHTML(item) {
    const frame = this.#frame.querySelector("iframe");
    const style = `${document.baseURI ? new URL(frame.dataset.style, location.href).href : ""}`;
    frame.srcdoc =
      `<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="${style}">` +
      `<body style='${themeForFrame().replaceAll("'", '"')}'><main>${item.data.html}</main>`;
    countDown(this.#frame.querySelector(".countdown"), item);
    return this.#frame;
  }

  #text(selector, text) {
    const element = this.#panel.querySelector(selector);
    element.textContent = text;
    element.hidden = !text;
  }
}

start(() => new General());
