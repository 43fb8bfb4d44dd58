// The snapshots of a dataset, and what differs between two of them.

import { ProblemError, address, ask } from "./api.js";
import { el, shown, table } from "./dom.js";
import { moreButton } from "./paging.js";
import { change, to } from "./route.js";

export async function snapshots(main, route, signal) {
  const name = route.parts[1];
  const { items } = await ask(address(["datasets", name, "snapshots"], { limit: 100 }), { signal });
  const outcomes = (counts) => Object.entries(counts).map(([outcome, count]) => `${count} ${outcome}`).join(", ");
  const rows = items.map((each) => [
    el("a", { href: to(["datasets", name], each.current ? {} : { snapshot: each.id }), text: each.id }),
    [...(each.current ? ["current"] : []), ...each.tags].join(", "),
    each.restored_from ? el("a", { href: to(["datasets", name], { snapshot: each.restored_from }), text: each.restored_from }) : "",
    new Date(each.created_at).toLocaleString("en"),
    each.source,
    outcomes(each.images),
    outcomes(each.rows),
  ]);
  const differences = el("div", { class: "differences" });
  main.replaceChildren(
    el("h1", { text: `Snapshots of ${name}` }),
    table("Newest first", ["Snapshot", "Names", "Equals", "Published", "Source", "Images", "Rows"], rows),
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
  const to_ = id("to") ?? items[0].id;
  const from = id("from") ?? items[Math.min(items.findIndex((each) => each.id === to_) + 1, items.length - 1)].id;
  const picker = (label, id, now, what) => {
    const select = el("select", { id, data: { focus: id } }, ...items.map((each) => el("option", { value: each.id, text: each.id, selected: each.id === now })));
    select.addEventListener("change", () => change({ from, to: to_, [what]: select.value }));
    return el("label", {}, `${label} `, select);
  };
  const found = el("div", { "aria-live": "polite" });
  const held = place.contains(document.activeElement) ? document.activeElement.id : null;
  place.replaceChildren(el("div", { class: "controls" }, picker("From", "from", from, "from"), picker("To", "to", to_, "to")), found);
  if (held) document.getElementById(held)?.focus();
  const page = await differing(name, { from, to: to_ }, signal);
  const list = el("ul", { class: "changes" }, ...page.items.map((each) => item(name, each, from, to_)));
  const more = moreButton(page.next, async (cursor) => {
    const next = await differing(name, { from, to: to_, cursor }, signal);
    list.append(...next.items.map((each) => item(name, each, from, to_)));
    return next.next;
  });
  const counts = Object.entries(page.counts).map(([kind, count]) => `${count} ${kind}`).join(", ");
  found.replaceChildren(el("p", { class: "total", text: page.items.length ? counts : "Nothing differs." }), list, more);
}

async function differing(name, query, signal) {
  try {
    return await ask(address(["datasets", name, "diff"], query), { signal });
  } catch (error) {
    if (error instanceof ProblemError && query.from === query.to) return { items: [], counts: {}, next: null };
    throw error;
  }
}

function item(name, { kind, product_key, image_key, before, after, columns }, from, to_) {
  const snapshot = kind === "removed" ? from : to_;
  const title = product_key
    ? el("a", { href: to(["datasets", name, "products", product_key], { snapshot }), text: product_key })
    : el("span", { text: image_key ?? "" });
  const changes = kind === "changed" ? columns.map((column) => el("li", { text: `${column}: ${shown(before?.[column])} → ${shown(after?.[column])}` })) : [];
  return el("li", {}, el("span", { class: `kind ${kind}`, text: kind }), " ", title, changes.length ? el("ul", {}, ...changes) : "");
}
