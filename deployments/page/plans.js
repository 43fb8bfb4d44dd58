// What an ingest would do: asked for, waited for, read. The API says it in lines, as the command prints them.

import { address, ask, fresh, watch } from "./api.js";
import { el, table } from "./dom.js";

export async function planForm(main, route, signal) {
  const name = route.parts[1];
  const { items } = await ask(address(["datasets", name, "snapshots"], { limit: 1 }), { signal });
  const source = el("input", { id: "source", value: items[0]?.source ?? "", required: true, spellcheck: "false" });
  const limit = el("input", { id: "limit", type: "number", min: "1" });
  const submit = el("button", { type: "submit", class: "button", text: "Plan" });
  const state = el("p", { class: "total", "aria-live": "polite" });
  const found = el("div");
  const field = (id, text, control, help) => el("div", { class: "field" }, el("label", { for: id, text }), control, el("small", { text: help }));
  const form = el(
    "form",
    { class: "export" },
    field("source", "Source", source, "a folder of the worker, inbox://, kaggle://owner/dataset, sample://500"),
    field("limit", "Limit", limit, "images at the most, in the order of their names; empty: all"),
    submit,
  );
  const tell = (now) => {
    state.textContent = [now.state, now.error].filter(Boolean).join(": ");
    if (!now.lines) return;
    const [[, ends], ...lines] = now.lines;
    state.textContent = ends;
    found.replaceChildren(table(`An ingest of ${now.request.source}`, ["What", "How much"], lines));
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    found.replaceChildren();
    try {
      const body = { dataset: name, source: source.value.trim(), ...(limit.value ? { limit: Number(limit.value) } : {}) };
      const made = await ask(address(["plans"]), { method: "POST", body, more: { "Idempotency-Key": fresh() } });
      tell(made);
      await watch(made.links.self, tell, signal);
    } catch (problem) {
      if (!signal.aborted) dispatchEvent(new CustomEvent("problem", { detail: problem }));
    }
    submit.disabled = false;
  });
  main.replaceChildren(el("h1", { text: `What an ingest of ${name} would do` }), el("p", { class: "quiet", text: "A worker looks at the source. Nothing is drawn or written." }), form, state, found);
}
