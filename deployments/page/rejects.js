// What a snapshot refused, or the last run that published none, and why.

import { address, ask } from "./api.js";
import { counted, el } from "./dom.js";
import { moreButton } from "./paging.js";
import { put } from "./route.js";

export async function rejects(main, route, signal) {
  const name = route.parts[1];
  const place = el("div");
  main.replaceChildren(el("h1", { text: `Rejects of ${name}` }), place);
  const update = async ({ query }) => fill(place, name, query, signal);
  await update(route);
  return update;
}

async function fill(place, name, query, signal) {
  const wanted = Object.fromEntries(["snapshot", "kind", "rule"].map((each) => [each, query.get(each)]).filter(([, value]) => value));
  const page = await ask(address(["datasets", name, "rejects"], wanted), { signal });
  const held = place.contains(document.activeElement) ? document.activeElement.id : null;
  const list = el("tbody", {}, ...page.items.map(line));
  const more = moreButton(page.next, async (cursor) => {
    const next = await ask(address(["datasets", name, "rejects"], { ...wanted, cursor }), { signal });
    list.append(...next.items.map(line));
    return next.next;
  });
  const head = el("tr", {}, ...["What", "Where", "Rule", "Reason", "As it stood"].map((text) => el("th", { text, scope: "col" })));
  place.replaceChildren(
    page.unpublished ? el("p", {}, el("strong", { text: said(page.unpublished) })) : "",
    el("div", { class: "controls" }, picker("Kind", "kind", page.facets.kind, wanted.kind), picker("Rule", "rule", page.facets.rule, wanted.rule)),
    el("p", { class: "total", "aria-live": "polite", text: page.total ? counted(page.total, "reject") : "Nothing was refused." }),
    page.total
      ? el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Rejects" }, el("table", {}, el("thead", {}, head), list))
      : "",
    more,
  );
  if (held) document.getElementById(held)?.focus();
}

function said({ run_id, started_at, why }) {
  return `Nothing was published by the last run (${run_id}, begun ${started_at}): ${why ?? "It broke off."}`;
}

function picker(label, id, facet, now) {
  const option = (value, text) => el("option", { value, text, selected: value === (now ?? "") });
  const select = el("select", { id }, option("", "all"), ...facet.values.map((each) => option(each.value, `${each.value} (${each.count})`)));
  select.addEventListener("change", () => put(id, select.value));
  return el("label", {}, `${label} `, select);
}

function line({ kind, locator, rule, message, raw }) {
  const cell = (child) => el("td", {}, child);
  const stood = raw ? el("details", {}, el("summary", { text: "show" }), el("pre", { text: raw, dir: "auto" })) : "–";
  return el("tr", {}, cell(kind), el("td", { text: locator, dir: "auto" }), cell(rule), cell(message), cell(stood));
}
