// Products as cards: a small picture, a name.

import { show } from "./api.js";
import { el, shown } from "./dom.js";
import { to } from "./route.js";

/** The address of the smallest picture that there is. */
export function small(images) {
  const { original, thumb, ...others } = images;
  return thumb ?? Object.values(others)[0] ?? original ?? null;
}

/** The address of an image of a snapshot; the API looks for images of older ones where they are named. */
export function ofSnapshot(where, detail) {
  if (detail.current) return where;
  return `${where}${where.includes("?") ? "&" : "?"}snapshot=${encodeURIComponent(detail.id)}`;
}

/** A card for each product. */
export function cards(dataset, detail, items) {
  return items.map((item) => card(dataset, detail, item));
}

function card(dataset, detail, { product_key, values, images }) {
  const named = values[detail.display_name] || product_key || values.image_key;
  const where = small(images);
  const picture = where
    ? show(el("img", { alt: "", loading: "lazy", decoding: "async", width: "160", height: "160" }), ofSnapshot(where, detail))
    : el("span", { class: "none", text: values.missing_reason ? `no image: ${values.missing_reason}` : "no image" });
  const told = [
    el("span", { class: "picture" }, picture),
    el("span", { class: "name", text: shown(named), dir: "auto" }),
    el("small", { text: product_key ?? "image without a row" }),
  ];
  const more = detail.current ? {} : { snapshot: detail.id };
  const inner = product_key
    ? el("a", { href: to(["datasets", dataset, "products", product_key], more) }, ...told)
    : el("div", {}, ...told);
  return el("li", {}, inner);
}
