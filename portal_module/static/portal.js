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
