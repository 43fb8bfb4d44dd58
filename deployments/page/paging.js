// A list that goes on: a button that fetches the next page.

import { el } from "./dom.js";

/**
 * A button that is there while there is more.
 * @param {string|null} first the cursor of the second page
 * @param {(cursor: string) => Promise<string|null>} fetchPage shows a page, and gives the cursor of the next one
 */
export function moreButton(first, fetchPage) {
  let cursor = first;
  const button = el("button", { type: "button", class: "more", text: "Show more", hidden: !cursor });
  button.addEventListener("click", async () => {
    if (!cursor) return;
    button.disabled = true;
    try {
      cursor = await fetchPage(cursor);
    } catch (problem) {
      if (problem.name !== "AbortError") dispatchEvent(new CustomEvent("problem", { detail: problem }));
    }
    button.disabled = false;
    button.hidden = !cursor;
  });
  return button;
}
