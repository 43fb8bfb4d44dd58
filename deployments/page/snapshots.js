// The snapshots of a dataset, and what differs between two of them.

import { address, ask, show } from "./api.js";
import { ofSnapshot, small } from "./cards.js";
import { el, shown, table } from "./dom.js";
import { moreButton } from "./paging.js";
import { change, to } from "./route.js";

const CHANGES = ["added", "removed", "changed"];
const KINDS = { images: "images", rows: "catalogue rows", links: "lines of images.csv", rejects: "other rejects" };
const ONE = { images: "image", rows: "row", links: "link", rejects: "reject" };
const WORDS = {
  moved: "moved",
  content: "new bytes",
  outcome: "other outcome",
  outputs: "drawn anew",
  match: "matched otherwise",
  described: "described otherwise",
  image: "other image",
  values: "other values",
};

export async function snapshots(main, route, signal) {
  const name = route.parts[1];
  const { items: published, candidates } = await ask(address(["datasets", name, "snapshots"], { limit: 100 }), { signal });
  const items = [...candidates, ...published];
  const failed = (each) => each.checks.filter(({ outcome }) => outcome === "failed").map((check) => check.name).join(", ");
  const outcomes = (counts) => Object.entries(counts).map(([outcome, count]) => `${count} ${outcome}`).join(", ");
  const rows = items.map((each) => [
    el("a", { href: to(["datasets", name], each.current ? {} : { snapshot: each.id }), text: each.id }),
    [...(each.current ? ["current"] : []), ...(candidates.includes(each) ? [`candidate: ${failed(each)} failed`] : []), ...each.tags].join(", "),
    each.restored_from ? el("a", { href: to(["datasets", name], { snapshot: each.restored_from }), text: each.restored_from }) : "",
    new Date(each.created_at).toLocaleString("en"),
    each.source,
    outcomes(each.images),
    outcomes(each.rows),
  ]);
  const differences = el("div", { class: "differences" });
  main.replaceChildren(
    el("h1", { text: `Snapshots of ${name}` }),
    table("Newest first", ["Snapshot", "Names", "Equals", "Made", "Source", "Images", "Rows"], rows),
    el("h2", { text: "What differs" }),
    differences,
  );
  const update = async ({ query }) => differ(differences, name, items, query, signal);
  await update(route);
  return update;
}

async function differ(place, name, items, query, signal) {
  if (items.length < 2) {
    place.replaceChildren(el("p", { text: "There is only one: nothing to compare." }));
    return;
  }
  const id = (what) => items.find((each) => each.tags.includes(query.get(what)))?.id ?? query.get(what); // of a tag, too
  const to_ = id("to") ?? (items.find((each) => each.current) ?? items[0]).id;
  const from = id("from") ?? items[Math.min(items.findIndex((each) => each.id === to_) + 1, items.length - 1)].id;
  const of = query.get("of") ?? "";
  const options = items.map((each) => [each.id, each.id]);
  const picker = (label, id, now, listed) => {
    const select = el("select", { id, data: { focus: id } }, ...listed.map(([value, text]) => el("option", { value, text, selected: value === now })));
    select.addEventListener("change", () => change({ from, to: to_, ...(of ? { of } : {}), [id]: select.value }));
    return el("label", {}, `${label} `, select);
  };
  const kinds = [["", "everything"], ...Object.entries(KINDS)];
  const found = el("div", { "aria-live": "polite" });
  const held = place.contains(document.activeElement) ? document.activeElement.id : null;
  place.replaceChildren(el("div", { class: "controls" }, picker("From", "from", from, options), picker("To", "to", to_, options), picker("Of", "of", of, kinds)), found);
  if (held) document.getElementById(held)?.focus();
  const asked = { from, to: to_, ...(of ? { of } : {}) };
  const sides = { before: items.find((each) => each.id === from), after: items.find((each) => each.id === to_) };
  const differing = (more) => ask(address(["datasets", name, "diff"], { ...asked, ...more }), { signal });
  const page = await differing({});
  const list = el("ul", { class: "changes" }, ...page.items.map((each) => item(name, each, sides)));
  const more = moreButton(page.next, async (cursor) => {
    const next = await differing({ cursor });
    list.append(...next.items.map((each) => item(name, each, sides)));
    return next.next;
  });
  const counts = Object.entries(page.counts)
    .map(([kind, each]) => [KINDS[kind], CHANGES.filter((change) => each[change]).map((change) => `${each[change]} ${change}`), page.why[kind]])
    .filter(([, told]) => told.length)
    .map(([kind, told, why]) => `${kind}: ${told.join(", ")}${Object.keys(why).length ? ` (${Object.entries(why).map(([reason, count]) => `${count} ${WORDS[reason] ?? reason}`).join(", ")})` : ""}`);
  const lines = counts.length ? counts : ["Nothing differs."];
  found.replaceChildren(...lines.map((text) => el("p", { class: "total", text })), ...making(page.made_by), list, more);
}

/** What the snapshots were made by, where that differs. */
function making(madeBy) {
  const rows = Object.entries(madeBy).flatMap(([part, values]) => Object.entries(values).map(([key, [before, after]]) => [part, key, before, after]));
  if (!rows.length) return [];
  return [el("details", {}, el("summary", { text: "How they were made differs, too" }), table("How they were made", ["What", "Name", "Before", "After"], rows))];
}

function item(name, { of, kind, key, why, columns, before, after, images }, sides) {
  const product_key = (after ?? before).product_key;
  const title = product_key
    ? el("a", { href: to(["datasets", name, "products", product_key], { snapshot: (after ? sides.after : sides.before).id }), text: key ?? product_key })
    : el("span", { text: key ?? "" });
  const reasons = why.length ? el("small", { text: ` ${why.map((each) => WORDS[each] ?? each).join(", ")}` }) : "";
  const changes = kind === "changed" ? columns.map((column) => el("li", { text: `${column}: ${shown(before?.[column])} → ${shown(after?.[column])}` })) : [];
  const told = [el("span", { class: `kind ${kind}`, text: kind }), el("small", { text: `${ONE[of]} ` }), title, reasons, changes.length ? el("ul", {}, ...changes) : ""];
  const once = small(images.before) === small(images.after);
  const pictures = Object.keys(sides).filter((side) => small(images[side]) && !(once && side === "before"));
  const figures = pictures.map((side) =>
    el("figure", {}, show(el("img", { alt: side, loading: "lazy", decoding: "async", width: "96", height: "96" }), ofSnapshot(small(images[side]), sides[side])), pictures.length > 1 ? el("figcaption", { text: side }) : null),
  );
  return el("li", {}, figures.length ? el("div", { class: "sides" }, ...figures) : "", el("div", {}, ...told));
}
