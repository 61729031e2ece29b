// Keys, parts that are asked for when they are opened, favourites, copying, tokens by keyboard.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const body = document.body;

  function say(text) {
    const done = $("done");
    if (done) done.textContent = text;
  }

  // Parts of a page

  async function load(part) {
    if (part.dataset.state) return;
    part.dataset.state = "loading";
    const place = part.querySelector(".filled");
    place.setAttribute("aria-busy", "true");
    place.textContent = part.dataset.wait;
    try {
      const answer = await fetch(part.dataset.src);
      const text = await answer.text();
      if (!answer.ok) throw new Error(`not available (${answer.status})`);
      place.innerHTML = text; // Escaped by the server; the policy runs no script in it.
      applyStyles(place);
      prepareWindows(place);
      if (body.classList.contains("overlay")) overlay(place);
    } catch (error) {
      part.dataset.state = "";
      place.textContent = error.message;
    }
    place.removeAttribute("aria-busy");
  }

  function setUpParts() {
    const isPart = "details[data-src]";
    document.addEventListener("toggle", ({ target }) => {
      if (target instanceof Element && target.matches(isPart) && target.open) load(target);
    }, { capture: true }); // It does not bubble, and parts come and go.
    for (const part of document.querySelectorAll(`${isPart}[open]`)) load(part);
  }

  // Windows: tokens by keyboard; simulated as a line under real

  function prepareWindows(within) {
    for (const window of within.querySelectorAll(".window")) {
      window.tabIndex = 0;
      if (!window.hasAttribute("role")) window.setAttribute("role", "group");
      const caption = window.querySelector(".caption")?.textContent.trim() ?? "text with values"; // The reader's own text has none.
      if (!window.hasAttribute("aria-label")) window.setAttribute("aria-label", caption);
    }
  }

  function stepToken(window, by) {
    const tokens = [...window.querySelector(".act").querySelectorAll(":scope > i")];
    const last = Number(window.dataset.place ?? (by > 0 ? -1 : tokens.length));
    const place = Math.min(tokens.length - 1, Math.max(0, last + by));
    window.dataset.place = place;
    tokens[place]?.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
  }

  function overlay(within) {
    for (const window of within.querySelectorAll(".window")) {
      const [real, simulated] = ["real", "sim"].map((name) => window.querySelector(`.act.${name}`));
      if (!real || !simulated) continue;
      const tokens = real.querySelectorAll(":scope > i");
      simulated.querySelectorAll(":scope > i").forEach((token, i) => {
        tokens[i].style.setProperty("--b", getComputedStyle(token).getPropertyValue("--a") || "0");
      });
    }
  }

  function setUpOverlay() {
    const box = $("overlay");
    if (!box) return;
    box.closest("label").hidden = false;
    const apply = () => {
      if (box.checked) overlay(document);
      body.classList.toggle("overlay", box.checked);
    };
    box.addEventListener("change", apply);
    apply();
  }

  // What can be done with a unit

  function setUpCopies() {
    for (const button of document.querySelectorAll("button.copy")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        try {
          const answer = await fetch(button.dataset.src);
          await navigator.clipboard.writeText(await answer.text());
          say("copied");
        } catch {
          say("this browser does not let a page copy; follow the JSON link");
        }
      });
    }
  }

  function setUpFavourite() {
    const button = $("favourite");
    if (!button) return;
    button.hidden = false;
    let last = Promise.resolve(); // a second press waits for what came of the first
    button.addEventListener("click", () => {
      last = last.then(press);
    });

    async function press() {
      const on = button.getAttribute("aria-pressed") !== "true";
      const wish = { layer: Number(body.dataset.layer), neuron: Number(body.dataset.neuron), on };
      try {
        const answer = await fetch(button.dataset.address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(wish) });
        const said = await answer.text();
        if (!answer.ok) {
          say(said.startsWith("{") ? JSON.parse(said).error : said);
          return;
        }
      } catch {
        say("not kept: the viewer does not answer");
        return;
      }
      button.setAttribute("aria-pressed", String(on));
      button.textContent = on ? "★ favourite" : "☆ favourite";
      say(on ? "on the list of favourites" : "taken off the list");
    }
  }

  // Keys

  function openKeys() {
    const dialog = $("keys");
    if (dialog && !dialog.open) dialog.showModal();
  }

  function follow(key) {
    const link = document.querySelector(`a[data-key="${key}"]`);
    if (link) location.assign(link.href);
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || $("keys")?.open) return;
    const target = event.target;
    if (target instanceof Element && target.closest("input, textarea, select, [contenteditable]")) return;
    const window = target instanceof Element ? target.closest(".window") : null;
    const arrow = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (arrow && window) {
      event.preventDefault();
      stepToken(window, arrow);
    } else if (arrow && body.dataset.unit && !(target instanceof Element && target.closest(".scroll"))) {
      follow(arrow > 0 ? "j" : "k");
    } else if (["j", "k", "r"].includes(event.key)) {
      follow(event.key);
    } else if (event.key === "/") {
      event.preventDefault();
      ($("find") ?? document.querySelector("input[type=search]"))?.focus();
    } else if (event.key === "f") {
      $("favourite")?.click();
    } else if (event.key === "?") {
      openKeys();
    }
  }

  const help = $("help");
  if (help) {
    help.hidden = false;
    help.addEventListener("click", openKeys);
  }
  document.addEventListener("keydown", onKey);
  prepareWindows(document);
  setUpParts();
  setUpOverlay();
  setUpCopies();
  setUpFavourite();
})();
