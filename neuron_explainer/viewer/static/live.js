// Keeps the live page up to date, as long as the server tells of the run.
"use strict";

function setUpLive() {
  const place = document.getElementById("live");
  const spoken = document.getElementById("live-said");
  const state = document.getElementById("live-state");
  const events = new EventSource(place.dataset.events);
  let saidAt = 0;
  let wasRunning = null;

  function say(line) {
    // A screen reader is told when the run begins or ends, and else twice a minute at most.
    const isRunning = line.startsWith("running");
    if (isRunning === wasRunning && Date.now() - saidAt < 30000) return;
    wasRunning = isRunning;
    saidAt = Date.now();
    spoken.textContent = line;
  }

  events.addEventListener("status", (event) => {
    const { html, line } = JSON.parse(event.data);
    const focused = document.activeElement;
    const link = place.contains(focused) ? focused.getAttribute("href") : null;
    place.innerHTML = html; // Made by the server, which escapes every text.
    applyStyles(place);
    if (link) [...place.querySelectorAll("a")].find((a) => a.getAttribute("href") === link)?.focus();
    state.textContent = "";
    say(line);
  });
  events.addEventListener("error", () => {
    wasRunning = null; // What is true again after this is said again.
    state.textContent = events.readyState === EventSource.CLOSED ? "" : "The viewer does not answer; trying again …";
  });
  window.addEventListener("pagehide", () => events.close());
}

setUpLive();
