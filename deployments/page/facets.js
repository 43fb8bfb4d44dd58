// Facets: how often each value of a column occurs among what is found, and boxes to choose by.

import { address, ask } from "./api.js";
import { el, shown } from "./dom.js";
import { change, read } from "./route.js";

/** Parameters of the API that are no columns, and what the page keeps in its address. */
const RESERVED = new Set(["snapshot", "filter", "where", "q", "sort", "cursor", "limit", "facets", "columns"]);
const MOST_COLUMNS = 20;
const MOST_VALUES = 40;
const OPEN = 4;

/** The columns that are worth a facet: those of the catalogue with few values, outcomes, and flags of issues. */
export async function facetColumns(dataset, detail, signal) {
  const usable = detail.columns.filter((column) => column.facet && !RESERVED.has(column.name));
  const own = usable.filter((column) => column.catalogue && column.name !== detail.display_name);
  const flags = usable.filter((column) => /^is_.*_issue$/.test(column.name));
  const wanted = [...own, ...usable.filter((column) => column.name === "row_outcome"), ...flags].slice(0, MOST_COLUMNS * 2);
  const found = [];
  for (let at = 0; at < wanted.length; at += MOST_COLUMNS) {
    const part = wanted.slice(at, at + MOST_COLUMNS);
    const query = { snapshot: detail.id, limit: 0, facets: part.map((column) => column.name).join(",") };
    const { facets } = await ask(address(["datasets", dataset, "products"], query), { signal });
    for (const column of part) {
      const { values, others } = facets[column.name];
      const few = others === 0 && values.length >= 2 && values.length <= MOST_VALUES;
      const flagged = !column.catalogue && column.type === "boolean" && values.some((each) => each.value === true);
      if (column.type === "boolean" && !column.catalogue ? flagged : few) found.push(column);
    }
  }
  return found.slice(0, MOST_COLUMNS);
}

/** A list of boxes for each column. */
export function facetLists(columns, facets, query) {
  return columns.map(({ name, type, catalogue }, place) => {
    const chosen = query.getAll(name);
    const values = facets[name].values.filter((each) => catalogue || type !== "boolean" || each.value === true || chosen.includes(text(each.value)));
    const boxes = values.map((each) => box(name, each, chosen));
    return el("details", { open: place < OPEN || chosen.length > 0 }, el("summary", { text: name, data: { focus: `facet ${name}` } }), el("ul", {}, ...boxes));
  });
}

function box(column, { value, count }, chosen) {
  const own = text(value);
  const input = el("input", { type: "checkbox", checked: chosen.includes(own), data: { focus: `${column}=${own}` } });
  input.addEventListener("change", () => toggle(column, own));
  return el("li", {}, el("label", {}, input, el("span", { text: value === null ? "(none)" : shown(value), dir: "auto" }), el("small", { text: count.toLocaleString("en") })));
}

/** A value as the address has it. */
function text(value) {
  return value === null ? "" : String(value);
}

function toggle(column, value) {
  const { query } = read();
  const kept = query.getAll(column);
  query.delete(column);
  const now = kept.includes(value) ? kept.filter((each) => each !== value) : [...kept, value];
  for (const each of now) query.append(column, each);
  change(query);
}

/** What was chosen, each to be taken away by a press. */
export function chips(query) {
  const chosen = [...query].filter(([name]) => name === "q" || !RESERVED.has(name));
  return chosen.map(([name, value]) =>
    el("button", {
      type: "button",
      class: "chip",
      text: `${name === "q" ? "words" : name}: ${value || "(none)"} ✕`,
      "aria-label": `Without ${name === "q" ? "words" : name} ${value || "none"}`,
      on: { click: () => without(name, value) },
    }),
  );
}

function without(name, value) {
  const { query } = read();
  const kept = query.getAll(name).filter((each) => each !== value);
  query.delete(name);
  for (const each of kept) query.append(name, each);
  change(query);
}

/**
 * The chosen values as an export takes them: `lines` in the short form, and a `filter` for what it has no words for,
 * one of some values or none; null where there is no such choice.
 */
export function conditions(query) {
  const quoted = (value) => `"${value.replaceAll('"', '""')}"`;
  const lines = [];
  const mixed = [];
  for (const column of [...new Set(query.keys())].filter((name) => !RESERVED.has(name))) {
    const values = query.getAll(column).filter((value) => value !== "");
    const none = query.getAll(column).includes("");
    if (none && values.length) mixed.push({ or: [{ column, op: "in", value: values }, { column, op: "is null" }] });
    else lines.push(none ? `${column} is null` : `${column} in ${values.map(quoted).join(",")}`);
  }
  return { lines, filter: mixed.length ? { and: mixed } : null };
}
