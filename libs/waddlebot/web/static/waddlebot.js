// What every page with a shell does by itself; all of it works without, but for the theme button; dialogs
// are popovers then.
import "./live.js";

const YEAR_S = 365 * 24 * 3600;
const $ = (selector, root = document) => root.querySelector(selector);

document.addEventListener("click", async (event) => {
  if (event.target instanceof HTMLDialogElement) return event.target.close();
  const target = event.target.closest("[data-open], [data-close], [data-copy], [data-reveal], [data-theme-next]");
  if (!target) return;
  if ("open" in target.dataset) {
    event.preventDefault(); // It would be opened as a popover, too.
    $("#" + target.dataset.open)?.showModal();
  }
  if ("close" in target.dataset) target.closest("dialog").close();
  if ("reveal" in target.dataset) reveal(target);
  if ("copy" in target.dataset) await copy($(target.dataset.copy));
  if ("themeNext" in target.dataset) nextTheme();
});

async function copy(field) {
  try {
    await navigator.clipboard.writeText(field.dataset.value ?? field.value);
    toast("Copied.");
  } catch {
    toast("The browser did not let us copy. Select the text and copy it yourself.", "bad");
  }
}

function reveal(button) {
  const field = $(button.dataset.reveal);
  const isHidden = field.type === "password";
  field.type = isHidden ? "text" : "password";
  button.setAttribute("aria-pressed", String(isHidden));
}

// The server reads the cookie, so that the next page comes in the right colours at once.
function nextTheme() {
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme || (isDark ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  document.cookie = `theme=${next}; path=/; max-age=${YEAR_S}; samesite=lax`;
}

export function toast(text, kind = "good") {
  const shown = document.createElement("div");
  shown.className = `toast ${kind}`;
  shown.textContent = text;
  $(".toasts").append(shown);
  if (kind !== "bad") setTimeout(() => shown.remove(), 5000);
}

document.addEventListener("trouble", (event) => toast(event.detail, "bad"));

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.metaKey || event.ctrlKey || event.target.closest("input, textarea, select")) return;
  const search = $("[data-slash]");
  if (!search) return;
  event.preventDefault();
  search.focus();
});

// A form with a save bar: it says whether something differs, and warns of leaving. What was refused still differs.
for (const bar of document.querySelectorAll("[data-savebar]")) {
  const form = bar.closest("form");
  const values = () => new URLSearchParams(new FormData(form)).toString();
  const first = values();
  const [discard, save] = bar.querySelectorAll("button");
  const look = () => {
    const isDirty = "failed" in form.dataset || values() !== first;
    $(".say", bar).textContent = isDirty ? "Not saved yet" : "No changes";
    save.disabled = discard.disabled = !isDirty;
    form.dataset.dirty = String(isDirty);
  };
  let isSent = false;
  form.addEventListener("input", look);
  form.addEventListener("reset", () => setTimeout(() => form.dispatchEvent(new Event("input", { bubbles: true }))));
  form.addEventListener("submit", () => (isSent = true));
  addEventListener("beforeunload", (event) => {
    if (form.dataset.dirty === "true" && !isSent) event.preventDefault();
  });
  look();
}
