// Elements, made without HTML: whatever a text holds, it stays a text.

/**
 * An element.
 * @param {string} tag
 * @param {object} given `class`, `text`, `on` (listeners by event), `data`, and attributes; null and false leave one out.
 * @param {...(Node|string|null)} children
 */
export function el(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") made.textContent = value;
    else if (name === "on") for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    else if (name === "data") Object.assign(made.dataset, value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Put other children into an element; what has the focus and is made again (same data-focus) keeps it. */
export function refill(element, ...children) {
  const held = element.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  element.replaceChildren(...children.filter(Boolean));
  if (held === undefined) return;
  const again = [...element.querySelectorAll("[data-focus]")].find((each) => each.dataset.focus === held);
  again?.focus({ preventScroll: true });
}

/** A value as a person reads it. */
export function shown(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(4)));
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}

/** A count with its noun. */
export function counted(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** Names and values. */
export function pairs(object) {
  const list = el("dl");
  for (const [name, value] of Object.entries(object)) list.append(el("dt", { text: name }), el("dd", { text: shown(value) }));
  return list;
}

/** A table; cells are texts or elements. */
export function table(caption, head, rows) {
  const line = (cells, tag) => el("tr", {}, ...cells.map((cell) => el(tag, {}, cell instanceof Node || cell === "" ? cell : shown(cell))));
  return el(
    "div",
    { class: "wide", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", { text: caption }), el("thead", {}, line(head, "th")), el("tbody", {}, ...rows.map((row) => line(row, "td")))),
  );
}

/** Call a function once nobody asked for it for so many milliseconds. */
export function later(work, milliseconds) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), milliseconds);
  };
}
