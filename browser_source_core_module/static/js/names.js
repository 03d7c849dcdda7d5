// Names: what stands out in an alert, on one line, as large as fits. A name is never broken.

const SMALLEST = 0.3;

/** Mark where a text says this name, if it does; what surrounds it is still only text. */
export function showName(element, name) {
  const text = element.textContent;
  const place = name ? text.indexOf(name) : -1;
  element.classList.toggle("only-name", text === name);
  if (place < 0) return;
  const marked = Object.assign(document.createElement("bdi"), { className: "name", textContent: name });
  element.replaceChildren(text.slice(0, place), marked, text.slice(place + name.length));
}

/** Let a text be as large as its kind is, whatever stood there before. */
export function forgetFit(element) {
  element.style.fontSize = "";
  element.classList.remove("cut", "only-name");
}

/** Shrink a text until every word of it fits its line, and all of it two; what is still too long then ends with dots. */
export function fitLine(element) {
  element.style.fontSize = "";
  element.classList.remove("cut");
  const largest = parseFloat(getComputedStyle(element).fontSize);
  let [low, high] = [SMALLEST, 1];
  const fits = (part) => {
    element.style.fontSize = `${largest * part}px`;
    return element.scrollWidth <= element.clientWidth + 1 && element.scrollHeight <= element.clientHeight + 1;
  };
  if (fits(1)) {
    element.style.fontSize = "";
    return;
  }
  for (let step = 0; step < 7; step += 1) {
    const middle = (low + high) / 2;
    if (fits(middle)) low = middle;
    else high = middle;
  }
  if (!fits(low)) element.classList.add("cut");
}
