// All datasets.

import { address, ask } from "./api.js";
import { counted, el, table } from "./dom.js";
import { to } from "./route.js";

export async function datasets(main, _route, signal) {
  const { items } = await ask(address(["datasets"]), { signal });
  const rows = items.map((each) => [
    each.fault ? el("span", { text: each.name }) : el("a", { href: to(["datasets", each.name]), text: each.name }),
    each.fault ?? each.snapshot,
    each.created_at ? new Date(each.created_at).toLocaleString("en") : null,
    each.images,
    each.rows,
  ]);
  main.replaceChildren(
    el("h1", { text: "Datasets" }),
    items.length
      ? table(counted(items.length, "dataset"), ["Dataset", "Current snapshot", "Published", "Images", "Rows"], rows)
      : el("p", { text: "None is published yet. Run: lookbook ingest sample://500 --dataset demo" }),
  );
}
