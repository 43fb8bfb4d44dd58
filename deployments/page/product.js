// One product: its images beside what was made of them, what is known, what became of it.

import { address, ask, show } from "./api.js";
import { cards, ofSnapshot } from "./cards.js";
import { el, pairs, table } from "./dom.js";
import { to } from "./route.js";

export async function product(main, route, signal) {
  const [, name, , key] = route.parts;
  const snapshot = route.query.get("snapshot");
  const [detail, found] = await Promise.all([
    ask(address(["datasets", name, "snapshots", snapshot ?? "current"]), { signal }),
    ask(address(["datasets", name, "products", key], snapshot ? { snapshot } : {}), { signal }),
  ]);
  const named = found.rows[0]?.[detail.display_name] || key;
  main.replaceChildren(
    el("h1", { text: named, dir: "auto" }),
    el("p", { class: "quiet", text: `Product ${key} in ${found.snapshot}` }),
    ...found.images.map((image) => imagePart(name, detail, image)),
    found.images.length ? "" : el("p", { text: "It has no image." }),
    ...found.rows.map((row) => el("section", {}, el("h2", { text: "In the catalogue" }), pairs(row))),
    historyPart(name, found),
  );
}

function imagePart(name, detail, image) {
  const figures = [];
  const own = image.measures;
  if (image.original) figures.push(figure("original", ofSnapshot(image.original, detail), own.original_width ?? own.width, own.original_height ?? own.height, own.bytes));
  for (const drawn of image.outputs) figures.push(figure(drawn.output, ofSnapshot(drawn.href, detail), drawn.width, drawn.height, drawn.bytes));
  const issues = Object.entries(image.measures).filter(([key, value]) => /^is_.*_issue$/.test(key) && value === true);
  const measures = Object.fromEntries(Object.entries(image.measures).filter(([key]) => !/^is_.*_issue$/.test(key)));
  const like = image.near_duplicates.length
    ? [el("h3", { text: "Looks the same" }), el("ul", { class: "grid small" }, ...cards(name, detail, image.near_duplicates))]
    : [];
  return el(
    "section",
    { class: "image" },
    el("h2", { text: image.image_key, dir: "auto" }),
    el("p", {}, `Outcome: ${image.outcome}`, ...issues.map(([key]) => el("span", { class: "issue", text: key.slice(3, -6).replaceAll("_", " ") }))),
    el("div", { class: "figures" }, ...figures),
    ...like,
    el("details", { open: true }, el("summary", { text: "Measures" }), pairs(measures)),
    el("details", {}, el("summary", { text: "EXIF" }), exif(image.exif)),
  );
}

function figure(output, where, width, height, bytes) {
  const told = `${width ?? "?"}×${height ?? "?"}, ${((bytes ?? 0) / 1000).toFixed(1)} kB`;
  const image = show(el("img", { alt: output, decoding: "async", width, height }), where);
  return el("figure", {}, image, el("figcaption", {}, el("strong", { text: output }), ` ${told}`));
}

function exif(found) {
  if (!found || !Object.keys(found).length) return el("p", { text: "None, or the recipe left it out." });
  return pairs(found);
}

function historyPart(name, { history, product_key }) {
  const rows = history.map((past) => [
    el("a", { href: to(["datasets", name, "products", product_key], { snapshot: past.snapshot }), text: past.snapshot }),
    past.outcome ?? "was not there",
    past.reason,
    past.sha256 ? past.sha256.slice(0, 12) : null,
    past.changed ? "changed" : "as before",
  ]);
  return el("section", {}, el("h2", { text: "What became of it" }), table("History, newest first", ["Snapshot", "Outcome", "Reason", "Content", ""], rows));
}
