// Exports: asked for, watched, taken home.

import { FINAL, address, ask, fresh, key, save, watch } from "./api.js";
import { counted, el, later, pairs, shown, table } from "./dom.js";
import { conditions } from "./facets.js";
import { to } from "./route.js";

const FORMATS = {
  imagefolder: "Image folder, for datasets' load_dataset",
  webdataset: "WebDataset, tar shards",
  parquet: "Parquet with the images in it",
  coco: "COCO",
  csv: "A table with links",
};
const RECIPES = ["originals", "square-224", "border-224", "train-224", "tensor-224"];
const SIDES = { 1: ["train"], 2: ["train", "test"], 3: ["train", "validation", "test"] };

export async function exportForm(main, route, signal) {
  const name = route.parts[1];
  const detail = await ask(address(["datasets", name, "snapshots", route.query.get("snapshot") ?? "current"]), { signal });
  const chosen = conditions(route.query);
  const fields = fieldsOf(detail, route.query, chosen.lines);
  const body = () => bodyOf(name, detail, fields, chosen.filter);
  const count = el("p", { class: "total", "aria-live": "polite", id: "count" });
  const submit = el("button", { type: "submit", class: "button", text: "Export" });
  const form = el("form", { class: "export" }, ...Object.values(fields).map((field) => field.part), count, submit);
  let token = fresh();
  let asking = new AbortController();

  const recount = later(async () => {
    asking.abort();
    asking = new AbortController();
    const mine = asking.signal;
    try {
      const told = await ask(address(["exports", "count"]), { method: "POST", body: body(), signal: mine });
      if (mine.aborted || signal.aborted) return;
      const left = Object.entries(told.left_out).map(([reason, number]) => `${number} ${reason}`).join(", ");
      count.textContent = `${counted(told.exported, "image")}${left ? `; left out: ${left}` : ""}${told.ready ? "; made before, so it is there at once" : ""}`;
      submit.disabled = told.exported === 0;
    } catch (problem) {
      if (mine.aborted || signal.aborted) return;
      count.textContent = `This cannot be exported: ${problem.message}`;
      submit.disabled = true;
    }
  }, 300);
  form.addEventListener("input", () => {
    token = fresh();
    recount();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      const asked = { method: "POST", body: body(), more: { "Idempotency-Key": token } };
      const made = await ask(address(["exports"]), asked);
      location.hash = to(["exports", made.id]);
    } catch (problem) {
      submit.disabled = false; // the same token is sent again: what was begun is not begun twice
      dispatchEvent(new CustomEvent("problem", { detail: problem }));
    }
  });
  main.replaceChildren(el("h1", { text: `Export from ${name}` }), el("p", { class: "quiet", text: `Of snapshot ${detail.id}` }), chosen.filter ? alsoPart(chosen.filter) : "", form);
  recount();
}

function fieldsOf(detail, query, lines) {
  const labelled = (id, text, control, help = "") => ({
    control,
    part: el("div", { class: "field" }, el("label", { for: id, text }), control, help ? el("small", { text: help }) : ""),
  });
  const option = (value, text) => el("option", { value, text });
  const where = el("textarea", { id: "where", rows: "4", spellcheck: "false" });
  where.value = lines.join("\n");
  return {
    where: labelled("where", "Conditions, one a line", where, "such as year >= 2012, season in Summer,Fall, blurry_score < 0.3"),
    text: labelled("text", "Words of the name", el("input", { id: "text", value: query.get("q") ?? "" })),
    recipe: labelled("recipe", "Images", recipeInput(detail), "originals, an output of the snapshot, or square-N, border-N, train-N, tensor-N"),
    format: labelled("format", "Format", el("select", { id: "format" }, ...Object.entries(FORMATS).map(([value, text]) => option(value, text)))),
    split: labelled("split", "Split", el("input", { id: "split", placeholder: "0.8, 0.1, 0.1" }), "shares of train, validation and test; empty: no split"),
    copies: labelled("copies", "Copies of each", el("input", { id: "copies", type: "number", min: "1", max: "100", value: "1" }), "more than one with train-N"),
    seed: labelled("seed", "Seed", el("input", { id: "seed", type: "number", min: "0", value: "0" })),
    quote: labelled("quote", "Quote formulas", el("input", { id: "quote", type: "checkbox" }), "an apostrophe before texts of CSV files that a spreadsheet would take for formulas"),
  };
}

function recipeInput(detail) {
  const names = [...RECIPES.slice(0, 1), ...detail.outputs, ...RECIPES.slice(1)];
  const list = el("datalist", { id: "recipes" }, ...names.map((value) => el("option", { value })));
  const input = el("input", { id: "recipe", list: "recipes", value: "originals", required: true });
  return el("span", { class: "holder" }, input, list);
}

/** What the form takes along and has no line for. */
function alsoPart({ and }) {
  const told = and.map(({ or: [among] }) => `${among.column}: ${among.value.join(" or ")}, or none`);
  return el("p", { text: `Also chosen: ${told.join("; ")}` });
}

function valueOf({ control }) {
  return (control.querySelector?.("input") ?? control).value.trim();
}

function bodyOf(name, detail, fields, filter) {
  const lines = valueOf(fields.where).split("\n").map((line) => line.trim()).filter(Boolean);
  const body = {
    dataset: name,
    snapshot: detail.id,
    where: lines,
    recipe: valueOf(fields.recipe) || "originals",
    format: valueOf(fields.format),
    copies: Number(valueOf(fields.copies) || 1),
    seed: Number(valueOf(fields.seed) || 0),
  };
  if (filter) body.filter = filter;
  if (fields.quote.control.checked) body.quote_formulas = true;
  if (valueOf(fields.text)) body.text = valueOf(fields.text);
  const shares = valueOf(fields.split).split(/[,;\s]+/).filter(Boolean).map(Number);
  if (shares.length) body.split = Object.fromEntries(shares.map((share, at) => [SIDES[shares.length]?.[at] ?? `side${at + 1}`, share]));
  return body;
}

export async function exportProgress(main, route, signal) {
  const where = address(["exports", route.parts[1]]);
  const bar = el("progress", { max: "100", id: "progress", "aria-label": "Progress" });
  const state = el("p", { class: "total", "aria-live": "polite" });
  const actions = el("div", { class: "actions" });
  const about = el("div");
  const first = await ask(where, { signal });
  main.replaceChildren(el("h1", { text: `Export of ${first.dataset}` }), state, bar, actions, about);
  about.append(el("h2", { text: "What was asked for" }), pairs({ snapshot: first.snapshot, export: first.export_id, ...first.request }));
  tell(first, { bar, state, actions, where });
  if (!FINAL.has(first.state)) watch(where, (now) => tell(now, { bar, state, actions, where }), signal);
}

function tell(now, { bar, state, actions, where }) {
  const told = [now.state, now.progress, now.error, now.counts ? counted(now.counts.exported, "image") : null];
  const text = told.filter(Boolean).join(": ");
  if (state.textContent !== text) state.textContent = text;
  if (now.state === "completed") bar.value = 100;
  else if (now.percent !== null) bar.value = now.percent;
  bar.hidden = FINAL.has(now.state) && now.state !== "completed";
  if (actions.dataset.state === now.state) return;
  actions.dataset.state = now.state;
  actions.replaceChildren(...(now.links.archive ? downloads(now) : []), ...(FINAL.has(now.state) ? [] : [cancelButton(where)]));
}

function downloads(now) {
  const name = `${now.dataset}-${now.export_id.slice(0, 8)}`;
  return [["Archive (ZIP)", now.links.archive, `${name}.zip`], ["metadata.csv", now.links.metadata, `${name}.csv`]].map(([text, link, file]) => {
    if (!key.get()) return el("a", { class: "button", href: link, download: file, text });
    const failed = (problem) => dispatchEvent(new CustomEvent("problem", { detail: problem }));
    return el("button", { type: "button", text, on: { click: () => save(link, file).catch(failed) } });
  });
}

function cancelButton(where) {
  const button = el("button", { type: "button", text: "Cancel" });
  button.addEventListener("click", () => {
    button.disabled = true;
    ask(where, { method: "DELETE" }).catch((problem) => {
      button.disabled = false;
      dispatchEvent(new CustomEvent("problem", { detail: problem }));
    });
  });
  return button;
}

export async function exportList(main, _route, signal) {
  const { items } = await ask(address(["exports"], { limit: 50 }), { signal });
  const rows = items.map((each) => [
    el("a", { href: to(["exports", each.id]), text: new Date(each.created_at).toLocaleString("en") }),
    each.dataset,
    each.request.format,
    typeof each.request.recipe === "string" ? each.request.recipe : "own recipe",
    each.state,
    shown(each.counts?.exported),
  ]);
  main.replaceChildren(
    el("h1", { text: "My exports" }),
    items.length
      ? table("The newest 50", ["Asked for", "Dataset", "Format", "Images", "State", "Count"], rows)
      : el("p", { text: "None yet. Choose products of a dataset, then export them." }),
  );
}
