// The page: which view an address has, the links above it, errors, the form for a key.

import { ProblemError, ask, address, key } from "./api.js";
import { el, refill } from "./dom.js";
import { datasets } from "./datasets.js";
import { exportForm, exportList, exportProgress } from "./exports.js";
import { grid } from "./grid.js";
import { manage } from "./manage.js";
import { planForm } from "./plans.js";
import { product } from "./product.js";
import { rejects } from "./rejects.js";
import { read, to } from "./route.js";
import { snapshots } from "./snapshots.js";

const main = document.getElementById("main");
const alertBox = document.getElementById("alert");
let current = { place: null, update: null, ending: new AbortController() };

function viewOf(parts) {
  const [first, name, what] = parts;
  if (!first) return datasets;
  if (first === "exports") return name ? exportProgress : exportList;
  if (first !== "datasets" || !name) return null;
  return { undefined: grid, products: product, snapshots, rejects, export: exportForm, plan: planForm, manage }[what] ?? null;
}

async function render() {
  const route = read();
  const place = route.parts.join("/");
  tell(null);
  navigate(route);
  if (current.place === place && current.update) {
    await current.update(route).catch(failed);
    return;
  }
  current.ending.abort();
  const ending = new AbortController();
  current = { place, update: null, ending };
  const view = viewOf(route.parts);
  document.title = [...route.parts].reverse().concat("Lookbook").join(" · ");
  main.replaceChildren(el("p", { class: "quiet", text: "Loading…" }));
  if (!view) {
    main.replaceChildren(el("h1", { text: "There is no such page" }), el("a", { href: "#/", text: "To the datasets" }));
    return;
  }
  try {
    const update = await view(main, route, ending.signal);
    if (current.place === place) current.update = update ?? null;
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  } catch (error) {
    if (!ending.signal.aborted) failed(error);
  }
}

function navigate({ parts: [first, name, what], query }) {
  const kept = query.get("snapshot") ? { snapshot: query.get("snapshot") } : {};
  const link = (text, parts, now, more = {}) => el("a", { href: to(parts, more), text, "aria-current": now ? "page" : null });
  const own = first === "datasets" && name ? [
    link(name, ["datasets", name], what === undefined, kept),
    link("Snapshots", ["datasets", name, "snapshots"], what === "snapshots"),
    link("Rejects", ["datasets", name, "rejects"], what === "rejects", kept),
    link("Export", ["datasets", name, "export"], what === "export", kept),
    link("Plan", ["datasets", name, "plan"], what === "plan"),
    link("Manage", ["datasets", name, "manage"], what === "manage"),
  ] : [];
  refill(document.getElementById("nav"), ...own, link("My exports", ["exports"], first === "exports"));
}

/** Show an error above the page; null takes it away. */
function tell(error) {
  if (!error) {
    alertBox.replaceChildren();
    return;
  }
  const told = error.told ?? { title: "A fault of this page", detail: String(error) };
  const faults = (told.errors ?? []).map((fault) => el("li", { text: `${fault.place}: ${fault.message}` }));
  alertBox.replaceChildren(
    el("strong", { text: told.title }),
    el("p", { text: [told.detail, told.way_out].filter(Boolean).join(" ") }),
    faults.length ? el("ul", {}, ...faults) : "",
    told.request_id ? el("small", { text: `Request ${told.request_id}` }) : "",
    el("button", { type: "button", text: "Try again", on: { click: () => again() } }),
  );
}

function again() {
  current.place = null;
  render();
}

function failed(error) {
  if (error.name === "AbortError") return;
  if (error instanceof ProblemError && error.told.status === 401) askForKey(error);
  else {
    if (main.querySelector("h1") === null) main.replaceChildren();
    tell(error);
  }
}

function askForKey(error) {
  const field = el("input", { id: "key", type: "password", autocomplete: "off", required: true, size: "50" });
  const form = el(
    "form",
    { class: "key" },
    el("h1", { text: "A key, please" }),
    el("p", { text: `${error.message} It stays in this tab, and is sent to this server alone.` }),
    el("label", { for: "key", text: "Key" }),
    field,
    el("button", { type: "submit", text: "Use it" }),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    key.set(field.value.trim());
    try {
      await ask(address(["datasets"]));
      again();
    } catch (refused) {
      key.set("");
      tell(refused);
    }
  });
  key.set("");
  main.replaceChildren(form);
  field.focus();
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", render);
addEventListener("problem", (event) => failed(event.detail));
render();
