"use strict";
const sheet = document.querySelector(".sheet");
const dialog = document.querySelector("dialog");
if (sheet && dialog) {
  const contacts = [...sheet.querySelectorAll("button")];
  let shown = 0;
  const show = (place) => {
    shown = (place + contacts.length) % contacts.length;
    const details = contacts[shown].parentElement.querySelector("template").content.cloneNode(true);
    const picture = contacts[shown].querySelector("img").cloneNode();
    picture.loading = "eager";
    dialog.querySelector(".picture").replaceChildren(picture);
    dialog.querySelector(".details").replaceChildren(details);
  };
  sheet.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    show(contacts.indexOf(button));
    dialog.showModal();
  });
  dialog.addEventListener("click", (event) => {
    const step = event.target.closest("[data-step]");
    if (step) show(shown + Number(step.dataset.step));
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(shown + 1);
    if (event.key === "ArrowLeft") show(shown - 1);
  });
  dialog.addEventListener("close", () => contacts[shown].focus());
}
