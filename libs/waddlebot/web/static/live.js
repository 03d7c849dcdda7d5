// A form (or link) marked data-live="#id" fetches its page and puts that part of it in place. Without this script it just works as a page.
const runs = new WeakMap();
export async function live(el, url, body, { push = false, focus } = {}) {
  runs.get(el)?.abort();
  const stop = new AbortController(), target = document.querySelector(el.dataset.live);
  runs.set(el, stop);
  target.setAttribute("aria-busy", "true");
  try {
    const res = await fetch(url, { method: body ? "POST" : "GET", body, signal: stop.signal, headers: { Accept: "text/html" }, credentials: "same-origin" });
    // Signed out meanwhile: the page as a whole leads to where one signs in.
    if (res.redirected && /\/auth\/login$/.test(new URL(res.url).pathname)) return location.assign(location.href);
    // 422 is a form that was refused; it says itself what is wrong.
    if (!res.ok && res.status !== 422) throw new Error(res.status === 429 ? "Too many at once. Wait a moment." : "That did not work. Nothing was changed.");
    const doc = new DOMParser().parseFromString(await res.text(), "text/html"), part = doc.querySelector(el.dataset.live);
    target.replaceChildren(...(part ?? doc.body).childNodes);
    if (push) history.replaceState(null, "", url);
    target.dispatchEvent(new CustomEvent("live", { bubbles: true }));
  } catch (e) {
    if (e.name !== "AbortError") document.dispatchEvent(new CustomEvent("trouble", { detail: e.message || "The server cannot be reached." }));
  } finally {
    if (runs.get(el) === stop) target.removeAttribute("aria-busy");
  }
}
function send(el) {
  const form = el.matches("form") ? el : document.getElementById(el.dataset.of), data = new FormData(form);
  if (el !== form) for (const f of el.querySelectorAll("[name]")) data.set(f.name, f.value);
  const url = el.dataset.to || form.action;
  if ((el.dataset.method || form.method) === "get") {
    const q = new URLSearchParams([...data].filter(([, v]) => v)), full = url.split("?")[0] + (q.size ? "?" + q : "");
    return live(el, full, null, { push: true });
  }
  return live(el, url, new URLSearchParams(data));
}
let timer;
document.addEventListener("input", (e) => {
  const el = e.target.closest("[data-live][data-typed]") ?? document.querySelector(`[data-live][data-typed][data-of="${e.target.form?.id}"]`);
  if (!el || e.isComposing) return;
  clearTimeout(timer);
  timer = setTimeout(send, 200, el);
});
document.addEventListener("submit", (e) => {
  if (e.target.matches("form[data-live]")) { e.preventDefault(); clearTimeout(timer); send(e.target); }
});
