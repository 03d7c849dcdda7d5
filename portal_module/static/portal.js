// What only the portal's pages do by themselves.
import "./waddlebot.js";

const $ = (selector, root = document) => root.querySelector(selector);
const make = (name, className, text = "") => Object.assign(document.createElement(name), { className, textContent: text });

// A chart says its values under the pointer, and to the arrow keys: words from its table, heights from data-values.
function chart(figure) {
  const values = figure.dataset.values.split(";").map((each) => each.split(",").map(Number));
  const canvas = $(".canvas", figure), rows = [...figure.querySelectorAll("tbody tr")];
  const heads = [...figure.querySelectorAll("thead th")].slice(1);
  if (!rows.length) return;
  const line = make("div", "cur"), tip = make("div", "tip"), points = values.map((_, n) => make("div", `pt s${n + 1}`));
  canvas.append(line, ...points, tip);
  let at = rows.length - 1;
  const show = (wanted) => {
    at = Math.max(0, Math.min(rows.length - 1, wanted));
    const x = rows.length > 1 ? at / (rows.length - 1) : 0;
    line.style.left = `${x * 100}%`;
    points.forEach((point, n) => Object.assign(point.style, { left: `${x * 100}%`, top: `${(1 - values[n][at]) * 100}%` }));
    const said = heads.map((head, n) => {
      const row = make("span", "");
      row.append(make("i", n ? "key k2" : "key"), head.textContent, make("em", "", rows[at].children[n + 1].textContent));
      return row;
    });
    tip.replaceChildren(make("b", "", rows[at].children[0].textContent), ...said);
    tip.style.left = x < 0.5 ? `calc(${x * 100}% + 14px)` : `calc(${x * 100}% - ${tip.offsetWidth + 14}px)`;
    figure.classList.add("on");
  };
  const hide = () => figure.classList.remove("on");
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    show(Math.round(((event.clientX - box.left) / box.width) * (rows.length - 1)));
  });
  canvas.addEventListener("pointerleave", hide);
  figure.addEventListener("blur", hide);
  figure.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(figure.classList.contains("on") ? at + step : at);
  });
}

function begin(root) {
  for (const figure of root.querySelectorAll("[data-chart]:not([data-on])")) {
    figure.dataset.on = "";
    chart(figure);
  }
}

begin(document);
document.addEventListener("live", (event) => begin(event.target));

if ("serviceWorker" in navigator && isSecureContext) navigator.serviceWorker.register("/portal/sw.js", { scope: "/portal" });

// The playground: what was said goes into the log, and a chip says what is written on it.
const field = () => $("[data-play] input[name=text]");
document.addEventListener("click", (event) => {
  const chip = event.target.closest("[data-fill]");
  if (!chip) return;
  field().value = chip.dataset.fill;
  field().form.requestSubmit();
});
document.addEventListener("live", (event) => {
  const said = $("template[data-log]", event.target);
  if (!said) return;
  $("#log").append(said.content.cloneNode(true));
  said.remove();
  $("#log").lastElementChild.scrollIntoView({ block: "nearest" });
  field().value = "";
  field().focus({ preventScroll: true });
});

const shrink = new ResizeObserver((seen) => {
  for (const { target, contentRect } of seen) target.style.setProperty("--shrunk", contentRect.width / 1280);
});
for (const screen of document.querySelectorAll(".screen")) shrink.observe(screen);
document.addEventListener("live", (event) => {
  for (const screen of event.target.querySelectorAll(".screen")) shrink.observe(screen);
});

// An overlay that is ready shows what this page has for it, with a picture that is chosen and not sent yet, and what is typed then.
const show = (frame) => {
  const item = { ...JSON.parse(frame.dataset.show), seq: Date.now(), picture: $("#image_file")?.files[0] };
  frame.contentWindow.postMessage(item, new URL(frame.src).origin);
};
addEventListener("message", (event) => {
  const frame = [...document.querySelectorAll("iframe[data-show]")].find((each) => each.contentWindow === event.source);
  if (frame && event.data?.type === "ready" && event.origin === new URL(frame.src).origin) show(frame);
});
document.addEventListener("live", (event) => {
  const made = $("template[data-item]", event.target), frame = $("iframe[data-show]");
  if (!made || !frame) return;
  frame.dataset.show = made.dataset.item;
  show(frame);
});

// Ctrl-K or ⌘-K goes anywhere: to each page of the navigation, each place to switch to, and to what is searched there.
function makeGoTo() {
  const dialog = make("dialog", "goto"), body = make("div", "body"), field = make("input", ""), list = make("ul", "rows");
  dialog.setAttribute("aria-label", "Go to a page");
  Object.assign(list, { id: "goto-list", role: "listbox" }).setAttribute("aria-label", "Pages");
  Object.assign(field, { type: "search", placeholder: "A page, a member, a command", autocomplete: "off", role: "combobox" });
  for (const [name, value] of Object.entries({ label: "Go to", controls: "goto-list", expanded: "true", autocomplete: "list" })) {
    field.setAttribute(`aria-${name}`, value);
  }
  const seen = new Map();
  for (const link of document.querySelectorAll(".side nav a, .side .foot a, #switch .rows a")) {
    const group = link.closest("nav")?.previousElementSibling;
    seen.set(link.getAttribute("href"), [link.textContent.trim(), group?.matches("h2") ? group.textContent : link.closest("#switch") ? "Switch to" : ""]);
  }
  const root = ["members", "commands", "rules"].map((name) => [...seen.keys()].find((href) => href.endsWith(`/${name}`))).filter(Boolean);
  let shown = [], at = 0;
  const show = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = [...seen].filter(([, [name, group]]) => words.every((word) => `${name} ${group}`.toLowerCase().includes(word)));
    const asked = field.value.trim();
    const searches = asked ? root.slice(0, 2).map((href) => [`${href}?q=${encodeURIComponent(asked)}`, [`Find “${asked}”`, href.split("/").pop()]]) : [];
    shown = [...found.slice(0, 12), ...searches].map(([href, [name, group]], n) => {
      const item = Object.assign(make("li", ""), { role: "option", id: `goto-${n}` }), link = Object.assign(make("a", "", name), { href, tabIndex: -1 });
      link.append(make("small", "", group));
      item.append(link);
      return item;
    });
    list.replaceChildren(...shown);
    choose(0);
  };
  const choose = (n) => {
    at = Math.max(0, Math.min(shown.length - 1, n));
    shown.forEach((each, place) => each.setAttribute("aria-selected", String(place === at)));
    field.setAttribute("aria-activedescendant", shown[at]?.id ?? "");
    shown[at]?.scrollIntoView({ block: "nearest" });
  };
  field.addEventListener("input", show);
  field.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) event.preventDefault(), choose(at + step);
    if (event.key === "Enter") event.preventDefault(), shown[at]?.firstElementChild.click();
  });
  body.append(field, list);
  dialog.append(body);
  document.body.append(dialog);
  return () => {
    if (dialog.open) return dialog.close();
    field.value = "";
    show();
    dialog.showModal();
    field.focus();
  };
}
let goTo;
const openGoTo = () => (goTo ??= makeGoTo())();
document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey || !$(".side")) return;
  event.preventDefault();
  openGoTo();
});
document.addEventListener("click", (event) => event.target.closest("[data-goto]") && openGoTo());
