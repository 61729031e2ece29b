// Says that a text is being read; the first one waits until the model is loaded.
"use strict";

function setUpTry() {
  const form = document.getElementById("try");
  if (!form) return;
  const said = document.getElementById("try-said");
  function work(isBusy) {
    form.setAttribute("aria-busy", String(isBusy));
    said.textContent = isBusy ? said.dataset.wait : "";
  }
  form.addEventListener("submit", () => work(true));
  window.addEventListener("pageshow", () => work(false)); // Back may show the page as it was left.
}

setUpTry();
