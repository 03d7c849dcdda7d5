// General: announcements, alerts, forms, and a community's own HTML in a frame that nothing gets out of.

import { countDown, markTest, start, themeForFrame, transition } from "./overlay.js";

const HEADINGS = { announcement: "Announcement", alert: "Alert", form: "Form" };

class General {
  #panel = document.querySelector(".panel");
  #frame = document.querySelector(".own");
  #shown = null;

  show(item) {
    this.#shown = item.action === "general" && item.data.kind === "html" ? this.#showHTML(item) : this.#showPanel(item);
    markTest(this.#shown, item);
    this.#shown.hidden = false;
    transition(this.#shown, "entering", item);
    return 0;
  }

  async hide(item) {
    await transition(this.#shown, "leaving", item);
    this.#shown.hidden = true;
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
    this.#panel.querySelector("use").setAttribute("href", `#icon-${kind}`);
    this.#text(".heading", HEADINGS[kind]);
    this.#text(".title", data.title);
    this.#text(".body", data.text);
    const fields = this.#panel.querySelector(".fields");
    fields.replaceChildren(...(data.fields ?? []).map((label) => Object.assign(document.createElement("li"), { textContent: label, dir: "auto" })));
    fields.hidden = !data.fields?.length;
    this.#text(".state", kind === "form" ? "Waiting for an answer" : "");
    countDown(this.#panel.querySelector(".countdown"), item);
    return this.#panel;
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
