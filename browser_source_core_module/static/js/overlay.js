// What every overlay is made of: its line, its player, its theme, and an eye on whether anybody can see it.

import { Line } from "./line.js";
import { Player } from "./player.js";

const FRAME_VARIABLES = ["accent", "background", "text", "font", "radius", "general-x", "general-y"];

let muted = false;

/** Whether this page is for looking only. */
export const isMuted = () => muted;

/**
 * Put a stage to work. Beside what the player wants of it, it may have
 *   hear(item)    is told of each item at once, also of those that wait to be shown
 *   lead(leads)   whether this page is the one that is heard
 *   alone(pages)  the line is cut, while so many pages are open
 */
export function start(makeStage) {
  const settings = JSON.parse(document.getElementById("settings").textContent);
  muted = settings.muted;
  applyTheme(settings.theme);
  const page = document.documentElement.dataset;
  let player, stage;
  const line = new Line(settings.socket, {
    hello(frame) {
      page.line = "open";
      applyTheme(frame.theme);
      page.paused = String(frame.paused);
      player.setPaused(frame.paused);
      tellPages(frame.pages);
    },
    item(frame) {
      stage.hear?.(frame);
      player.take(frame);
    },
    lead: (leads) => stage.lead?.(leads),
    control(frame) {
      if (frame.action === "theme") applyTheme(frame.variables);
      else player.control(frame);
      if (frame.action === "pause" || frame.action === "resume") page.paused = String(frame.action === "pause");
    },
    pages: tellPages,
    away() {
      page.line = "away";
      stage.alone?.(Number(page.pages ?? 1));
    },
  });
  stage = makeStage(line, settings);
  player = new Player(stage, line);
  watchErrors(line);
  watchVisibility((hidden) => {
    page.hidden = String(hidden);
    line.setHidden(hidden);
    player.setHidden(hidden);
  });
  line.open();
  if (muted) takeFromPortal(settings.portal, (item) => {
    player.control({ action: "clear" });
    stage.hear?.(item);
    player.take(item);
  });
}

/** A page for looking only shows what the portal's page around it hands over. */
function takeFromPortal(portal, take) {
  addEventListener("message", (event) => {
    if (event.source === parent && event.origin === portal && event.data?.type === "item") take(withPicture(event.data));
  });
  if (document.referrer.startsWith(`${portal}/`)) parent.postMessage({ type: "ready" }, portal);
}

let chosen = "";

/** A picture that is chosen in the portal and kept nowhere yet comes along as a file. */
function withPicture({ picture, ...item }) {
  URL.revokeObjectURL(chosen);
  if (!(picture instanceof Blob)) return item;
  chosen = URL.createObjectURL(picture);
  const alert = { ...item.data.alert, image: chosen, is_video: picture.type.startsWith("video/") };
  return { ...item, data: { ...item.data, alert: { volume: 60, ...alert } } };
}

const own = new CSSStyleSheet();
document.adoptedStyleSheets = [own];

function applyTheme({ css = "", ...variables } = {}) {
  own.replaceSync(css);
  const style = document.documentElement.style;
  for (const name of [...style]) {
    if (name.startsWith("--") && !(name.slice(2) in variables)) style.removeProperty(name);
  }
  for (const [name, value] of Object.entries(variables)) style.setProperty(`--${name}`, value);
}

/** The variables that a framed document needs to look like the rest. */
export function themeForFrame() {
  const style = getComputedStyle(document.documentElement);
  const variables = FRAME_VARIABLES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]);
  return variables.filter(([, value]) => value).map(([name, value]) => `--${name}:${value}`).join(";");
}

/** Somebody who wonders why an alert is doubled finds the reason here; viewers should not see it. */
function tellPages(pages) {
  const page = document.documentElement.dataset;
  if (pages > 1 && page.pages !== String(pages)) {
    console.info(`WaddleBot: this overlay is open ${pages} times. Each of them shows everything.`);
  }
  page.pages = String(pages);
}

function watchErrors(line) {
  addEventListener("error", (event) => line.report(event.message));
  addEventListener("unhandledrejection", (event) => line.report(event.reason));
}

/** OBS tells of a source that is hidden, or in another scene, by the page's visibility, newer ones by an event too. */
function watchVisibility(changed) {
  let visibleInObs = true;
  const look = () => changed(document.hidden || !visibleInObs);
  addEventListener("obsSourceVisibleChanged", (event) => {
    visibleInObs = event.detail.visible;
    look();
  });
  document.addEventListener("visibilitychange", look);
  look();
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Start the CSS animations that a class names, and wait for their end, not for others'. Short items do without. */
export async function transition(element, name, item) {
  element.classList.remove("entering", "changing", "leaving"); // Who skips does not wait for the way in to end.
  if (item.display_s > 0 && item.display_s < 1) return;
  const others = new Set(element.getAnimations({ subtree: true }));
  element.classList.add(name);
  const started = element.getAnimations({ subtree: true }).filter((each) => isTransient(each) && !others.has(each));
  await Promise.allSettled(started.map((each) => each.finished));
  element.classList.remove(name);
}

function isTransient(animation) {
  return animation instanceof CSSAnimation && animation.effect.getTiming().iterations === 1;
}

export function markTest(element, item) {
  element.classList.toggle("test", item.test);
}

/** Run a bar down over an item's time. */
export function countDown(bar, item) {
  bar.hidden = !(item.display_s >= 1);
  for (const animation of bar.getAnimations()) animation.cancel();
  if (!bar.hidden) {
    const steps = calm() ? `steps(${Math.max(1, Math.round(item.display_s))})` : "linear";
    bar.animate({ transform: ["scaleX(1)", "scaleX(0)"] }, { duration: item.display_s * 1000, easing: steps, fill: "forwards" });
  }
}
