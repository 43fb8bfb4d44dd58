// The products of a snapshot: facets, words, order, and pages that come as they are looked at.

import { address, ask } from "./api.js";
import { cards } from "./cards.js";
import { counted, el, later, refill } from "./dom.js";
import { chips, facetColumns, facetLists } from "./facets.js";
import { moreButton } from "./paging.js";
import { put, to } from "./route.js";

const PAGE = 60;
/** How far from the end of the list the next page is asked for. */
const NEAR = "600px";
/** What stands in the page's own address and is no filter. */
const OWN = ["snapshot", "sort"];

export async function grid(main, route, signal) {
  const name = route.parts[1];
  const parts = parts_of(name);
  let shown = null; // the snapshot that the controls are made for
  let asking = new AbortController();
  main.replaceChildren(el("h1", { text: name }), parts.whole);

  async function update({ query }) {
    asking.abort(); // the newest question wins, also while the snapshot is still being read
    asking = new AbortController();
    const mine = AbortSignal.any([signal, asking.signal]);
    const wanted = query.get("snapshot") ?? "current";
    if (shown?.wanted !== wanted) {
      shown = await prepared(name, wanted, mine);
      fill_controls(parts, shown, query);
    }
    if (document.activeElement !== parts.search) parts.search.value = query.get("q") ?? "";
    refill(parts.chips, ...chips(query));
    parts.export.href = to(["datasets", name, "export"], query);
    await list(name, shown, query, parts, mine);
  }

  await update(route);
  return update;
}

function parts_of(name) {
  const search = el("input", { type: "search", id: "search", autocomplete: "off", placeholder: "Words of the name" });
  search.addEventListener("input", later(() => put("q", search.value, true), 250));
  const sort = el("select", { id: "sort", on: { change: () => put("sort", sort.value) } });
  const snapshot = el("select", { id: "snapshot", on: { change: () => put("snapshot", snapshot.value) } });
  const facets = el("div", { class: "facets" });
  const made = { search, sort, snapshot, facets, chips: el("div", { class: "chips" }), total: el("p", { class: "total", "aria-live": "polite" }) };
  made.list = el("ul", { class: "grid", "aria-label": "Products" });
  made.more = el("div");
  made.export = el("a", { class: "button", text: "Export these…" });
  const wide = matchMedia("(min-width: 50rem)").matches;
  const filters = el("details", { class: "filters", open: wide }, el("summary", { text: "Filters" }), facets);
  const controls = el(
    "form",
    { class: "controls", role: "search", on: { submit: (event) => event.preventDefault() } },
    el("label", {}, "Search ", search),
    el("label", {}, "Order ", sort),
    el("label", {}, "Snapshot ", snapshot),
    made.export,
  );
  made.whole = el("div", { class: "browse" }, filters, el("div", {}, controls, made.chips, made.total, made.list, made.more));
  return made;
}

async function prepared(name, wanted, signal) {
  const [detail, { items }] = await Promise.all([
    ask(address(["datasets", name, "snapshots", wanted]), { signal }),
    ask(address(["datasets", name, "snapshots"], { limit: 50 }), { signal }),
  ]);
  return { wanted, detail, snapshots: items, facets: await facetColumns(name, detail, signal) };
}

function fill_controls(parts, { detail, snapshots }, query) {
  const orders = [["", "As in the catalogue"]];
  for (const { name, type, catalogue } of detail.columns) {
    if (catalogue && (type === "integer" || type === "number" || name === detail.display_name)) orders.push([name, name], [`-${name}`, `${name}, descending`]);
    else if (name.endsWith("_score")) orders.push([name, `${name}, worst first`]);
  }
  const option = ([value, text], now) => el("option", { value, text, selected: value === now });
  parts.sort.replaceChildren(...orders.map((each) => option(each, query.get("sort") ?? "")));
  const known = snapshots.map((each) => [each.current ? "" : each.id, `${each.id}${each.current ? " (current)" : ""}`]);
  parts.snapshot.replaceChildren(...known.map((each) => option(each, detail.current ? "" : detail.id)));
}

async function list(name, shown, query, parts, signal) {
  const asked = new URLSearchParams(query);
  for (const each of OWN) asked.delete(each);
  asked.set("snapshot", shown.detail.id);
  asked.set("limit", PAGE);
  asked.set("columns", [shown.detail.display_name, "image_key", "row_outcome", "missing_reason"].filter(Boolean).join(","));
  if (query.get("sort")) asked.set("sort", query.get("sort"));
  const first = new URLSearchParams(asked);
  if (shown.facets.length) first.set("facets", shown.facets.map((each) => each.name).join(","));
  const page = await ask(address(["datasets", name, "products"], first), { signal });
  if (signal.aborted) return;
  parts.total.textContent = page.total ? counted(page.total, "product") : "No product is like that.";
  refill(parts.facets, ...facetLists(shown.facets, page.facets, query));
  parts.list.replaceChildren(...cards(name, shown.detail, page.items));
  continued(name, shown, asked, page.next, parts, signal);
}

/** Let the next page come when the end of the list is near, or the button is pressed. */
function continued(name, shown, asked, next, parts, signal) {
  const button = moreButton(next, async (cursor) => {
    const page = await ask(address(["datasets", name, "products"], new URLSearchParams([...asked, ["cursor", cursor]])), { signal });
    parts.list.append(...cards(name, shown.detail, page.items));
    requestAnimationFrame(() => close(button) && button.click()); // a high window has room for more at once
    return page.next;
  });
  parts.more.replaceChildren(button);
  const watching = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && button.click(), { rootMargin: NEAR });
  watching.observe(button);
  signal.addEventListener("abort", () => watching.disconnect(), { once: true });
}

function close(element) {
  return element.getBoundingClientRect().top < innerHeight + parseInt(NEAR, 10);
}
