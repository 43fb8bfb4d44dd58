// The products of a snapshot: facets, words, order, and pages that come as they are looked at.

import { address, ask } from "./api.js";
import { cards } from "./cards.js";
import { counted, el, later, refill } from "./dom.js";
import { chips, facetColumns, facetLists } from "./facets.js";
import { change, to } from "./route.js";

const PAGE = 60;
/** What stands in the page's own address and is no filter. */
const OWN = ["snapshot", "sort"];

export async function grid(main, route, signal) {
  const name = route.parts[1];
  const parts = parts_of(name);
  let shown = null; // the snapshot that the controls are made for
  let asking = new AbortController();
  main.replaceChildren(el("h1", { text: name }), parts.whole);

  async function update({ query }) {
    const wanted = query.get("snapshot") ?? "current";
    if (shown?.wanted !== wanted) {
      shown = await prepared(name, wanted, signal);
      fill_controls(parts, shown, query);
    }
    asking.abort();
    asking = new AbortController();
    signal.addEventListener("abort", () => asking.abort(), { once: true });
    if (document.activeElement !== parts.search) parts.search.value = query.get("q") ?? "";
    refill(parts.chips, ...chips(query));
    parts.export.href = to(["datasets", name, "export"], query);
    await list(name, shown, query, parts, asking.signal);
  }

  await update(route);
  return update;
}

function parts_of(name) {
  const search = el("input", { type: "search", id: "search", autocomplete: "off", placeholder: "Words of the name" });
  search.addEventListener("input", later(() => changed("q", search.value, true), 250));
  const sort = el("select", { id: "sort", on: { change: () => changed("sort", sort.value) } });
  const snapshot = el("select", { id: "snapshot", on: { change: () => changed("snapshot", snapshot.value) } });
  const facets = el("div", { class: "facets" });
  const made = { search, sort, snapshot, facets, chips: el("div", { class: "chips" }), total: el("p", { class: "total", "aria-live": "polite" }) };
  made.list = el("ul", { class: "grid", "aria-label": "Products" });
  made.more = el("button", { type: "button", class: "more", text: "Show more", hidden: true });
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

/** Change one thing of the address; an empty value takes it away. */
function changed(what, value, quiet = false) {
  const query = new URLSearchParams(location.hash.split(/\?(.*)/s)[1] ?? "");
  value ? query.set(what, value) : query.delete(what);
  change(query, quiet);
}

async function prepared(name, wanted, signal) {
  const [detail, { items }] = await Promise.all([
    ask(address(["datasets", name, "snapshots", wanted]), { signal }),
    ask(address(["datasets", name, "snapshots"], { limit: 50 }), { signal }),
  ]);
  return { wanted, detail, snapshots: items, facets: await facetColumns(name, detail, signal) };
}

function fill_controls(parts, { detail, snapshots, wanted }, query) {
  const orders = [["", "As in the catalogue"]];
  for (const { name, type, catalogue } of detail.columns) {
    if (catalogue && (type === "integer" || type === "number" || name === detail.display_name)) orders.push([name, name], [`-${name}`, `${name}, descending`]);
    else if (name.endsWith("_score")) orders.push([name, `${name}, worst first`]);
  }
  const option = ([value, text], now) => el("option", { value, text, selected: value === now });
  parts.sort.replaceChildren(...orders.map((each) => option(each, query.get("sort") ?? "")));
  const known = snapshots.map((each) => [each.current ? "" : each.id, `${each.id}${each.current ? " (current)" : ""}`]);
  parts.snapshot.replaceChildren(...known.map((each) => option(each, wanted === "current" ? "" : wanted)));
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
  let cursor = next;
  let busy = false;
  const more = async () => {
    if (busy || !cursor || signal.aborted) return;
    busy = true;
    try {
      const page = await ask(address(["datasets", name, "products"], new URLSearchParams([...asked, ["cursor", cursor]])), { signal });
      parts.list.append(...cards(name, shown.detail, page.items));
      cursor = page.next;
      parts.more.hidden = !cursor;
    } catch (problem) {
      if (!signal.aborted) dispatchEvent(new CustomEvent("problem", { detail: problem }));
    } finally {
      busy = false;
    }
    if (cursor && close(parts.more)) requestAnimationFrame(more);
  };
  parts.more.hidden = !cursor;
  parts.more.onclick = more;
  const watching = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && more(), { rootMargin: "600px" });
  watching.observe(parts.more);
  signal.addEventListener("abort", () => watching.disconnect(), { once: true });
}

function close(element) {
  return element.getBoundingClientRect().top < innerHeight + 600;
}
