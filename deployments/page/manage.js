// What can be done to a dataset: each a form; a worker does it, and the page tells how far it is and what became of it.

import { address, ask, fresh, watch } from "./api.js";
import { el, table } from "./dom.js";

const keep = { id: "keep", text: "Snapshots to keep", value: "10", help: "the newest of the dataset; tagged ones stay as well" };
const age = { id: "age", text: "Older than", value: "30d", help: "a number with s, m, h, d or w: what is younger stays" };
const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

/**
 * The forms. `fields` have an id, a label, what stands in them at first, and a line of help; `buttons` a label, the
 * request that they send (by the values of the fields), and the name that has to be typed where nothing brings it back.
 */
function actions(name, published, candidates) {
  const post = (what, body) => [[what], { method: "POST", body: { dataset: name, ...body } }];
  const sure = { id: "sure", text: `Type ${name} to confirm`, value: "" };
  const ids = published.map(({ id }) => id);
  const older = published.filter(({ current }) => !current).map(({ id }) => id);
  return [
    {
      title: "Ingest",
      help: "Lists the source again, draws what is new, and publishes a snapshot if anything changed.",
      fields: [{ id: "source", text: "Source", value: published[0]?.source ?? "", help: "a folder of the worker, inbox://, kaggle://owner/dataset, sample://500" }],
      buttons: [{ text: "Ingest", send: ({ source }) => post("ingests", { source }) }],
    },
    candidates.length > 0 && {
      title: "Publish a candidate",
      help: "Checks kept it back. Published by hand it becomes current all the same.",
      fields: [{ id: "candidate", text: "Candidate", options: candidates.map(({ id }) => id) }],
      buttons: [{ text: "Publish", send: ({ candidate }) => post("publications", { candidate }) }],
    },
    older.length > 0 && {
      title: "Restore",
      help: "Publishes an older snapshot again: a new one that equals it.",
      fields: [{ id: "snapshot", text: "Snapshot", options: older }],
      buttons: [{ text: "Restore", send: ({ snapshot }) => post("restores", { snapshot }) }],
    },
    {
      title: "Tag",
      help: "Gives a snapshot a name, which works wherever its id does. It is kept as long as it has one.",
      fields: [
        { id: "tag", text: "Tag", value: "", required: true, help: "letters, digits, . _ and -; one that stands elsewhere moves here" },
        { id: "snapshot", text: "Snapshot", options: ids },
      ],
      buttons: [{ text: "Tag", send: ({ tag, snapshot }) => [["datasets", name, "tags", tag], { method: "PUT", body: { snapshot, move: true } }] }],
    },
    {
      title: "Judge rejects again",
      help: "After the source was mended, or a limit was lifted: what is good now is published as a new snapshot.",
      fields: [{ id: "rules", text: "Rules, one a line", rows: 2, value: "", help: "such as truncated; empty: all" }],
      buttons: [{ text: "Judge again", send: ({ rules }) => post("replays", { rules: lines(rules) }) }],
    },
    {
      title: "Clean up",
      help: "Removes old snapshots of this dataset, its old exports, and what no snapshot needs then.",
      fields: [keep, age],
      buttons: [true, false].map((dry_run) => ({
        text: dry_run ? "Show what would go" : "Clean up",
        send: (values) => post("cleanups", { keep: Number(values.keep), older_than: values.age, dry_run }),
      })),
    },
    {
      title: "Rename",
      help: "Its exports go; snapshots and tags keep their ids.",
      fields: [{ id: "new_name", text: "New name", value: "", required: true }],
      buttons: [{ text: "Rename", send: ({ new_name }) => post("renames", { new_name }) }],
    },
    {
      title: "Forget",
      help: "Deletes products and images on request, from all snapshots and exports. Nothing brings them back, and no ingest takes them up again.",
      fields: [
        { id: "keys", text: "Keys of products or images, one a line", rows: 2, value: "" },
        { id: "where", text: "Or conditions, one a line", rows: 2, value: "", help: "such as year < 2010" },
        sure,
      ],
      buttons: [true, false].map((dry_run) => ({
        text: dry_run ? "Show what would go" : "Forget",
        typed: dry_run ? undefined : "sure",
        send: (values) => post("erasures", { keys: lines(values.keys), where: lines(values.where), dry_run }),
      })),
    },
    {
      title: "Remove the dataset",
      help: "All of it: snapshots, tags, exports, originals that no other dataset needs. Nothing brings it back.",
      fields: [sure],
      buttons: [{ text: "Remove", typed: "sure", send: () => [["datasets", name], { method: "DELETE" }] }],
    },
  ].filter(Boolean);
}

export async function manage(main, route, signal) {
  const name = route.parts[1];
  const { items, candidates } = await ask(address(["datasets", name, "snapshots"], { limit: 100 }), { signal });
  main.replaceChildren(el("h1", { text: `Manage ${name}` }), ...actions(name, items, candidates).map((action) => part(action, name, signal)));
}

/** One form with its buttons, and below it what became of what it asked for. */
function part({ title, help, fields, buttons }, name, signal) {
  const slug = title.toLowerCase().replaceAll(" ", "-");
  const controls = Object.fromEntries(fields.map((field) => [field.id, control(field, `${slug}-${field.id}`)]));
  const state = el("p", { class: "total", "aria-live": "polite" });
  const found = el("div");
  const made = buttons.map(({ text, typed, send }, at) => {
    const button = el("button", { type: "button", class: at === buttons.length - 1 ? "button" : null, text, disabled: Boolean(typed) });
    if (typed) controls[typed].addEventListener("input", () => (button.disabled = controls[typed].value !== name));
    button.addEventListener("click", async () => {
      if (!button.form.reportValidity()) return;
      const values = Object.fromEntries(Object.entries(controls).map(([id, each]) => [id, each.value.trim()]));
      for (const each of made) each.disabled = true;
      found.replaceChildren();
      await follow(send(values), state, found, signal);
      for (const [place, each] of made.entries()) each.disabled = Boolean(buttons[place].typed) && controls[buttons[place].typed].value !== name;
    });
    return button;
  });
  const labelled = fields.map((field) =>
    el("div", { class: "field" }, el("label", { for: controls[field.id].id, text: field.text }), controls[field.id], field.help ? el("small", { text: field.help }) : null),
  );
  const form = el("form", { class: "export", on: { submit: (event) => event.preventDefault() } }, ...labelled, el("div", { class: "actions" }, ...made));
  return el("section", { "aria-labelledby": slug }, el("h2", { id: slug, text: title }), el("p", { text: help }), form, state, found);
}

function control({ value, rows, options, required }, id) {
  if (options) return el("select", { id }, ...options.map((each) => el("option", { value: each, text: each })));
  if (!rows) return el("input", { id, value, required, spellcheck: "false", autocomplete: "off" });
  return el("textarea", { id, rows: String(rows), spellcheck: "false" });
}

/** Send a request, and tell its state until it has ended, then its summary. */
async function follow([parts, request], state, found, signal) {
  const tell = (now) => {
    state.textContent = [now.state, now.progress, now.error].filter(Boolean).join(": ");
    const rows = Object.entries(now.summary ?? {}).map(([what, value]) => [words(what), said(value)]);
    if (now.summary) found.replaceChildren(table("What became of it", ["What", "How"], rows.filter(([, text]) => text)));
  };
  try {
    const made = await ask(address(parts), { ...request, more: { "Idempotency-Key": fresh() } });
    if (!made.links) {
      state.textContent = "completed"; // no worker is needed for it
      return;
    }
    tell(made);
    await watch(made.links.self, tell, signal);
  } catch (problem) {
    if (!signal.aborted) dispatchEvent(new CustomEvent("problem", { detail: problem }));
  }
}

const words = (name) => name.replaceAll("_", " ");

/** A part of a summary in words: what is none or nothing is left out. */
function said(value) {
  if (value === null || value === false || value === "") return "";
  if (Array.isArray(value)) return value.map(said).filter(Boolean).join("; ");
  if (typeof value === "number") return value.toLocaleString("en");
  if (typeof value !== "object") return value === true ? "yes" : String(value);
  if (value.objects === 0) return "";
  const told = Object.entries(value).map(([name, each]) => [name, each === 0 ? "" : said(each)]);
  return told.filter(([, text]) => text).map(([name, text]) => `${words(name)} ${text}`).join(", ");
}
