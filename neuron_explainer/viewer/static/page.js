// Theme, stretched predictions, and the values of the token under the pointer.
"use strict";

function remember(key, value) {
  try {
    if (value !== undefined) localStorage.setItem(key, value);
    return localStorage.getItem(key);
  } catch {
    return null; // Some browsers give pages opened from disk no storage.
  }
}

function setUpTheme() {
  const media = { auto: "(prefers-color-scheme: dark)", light: "not all", dark: "all" };
  const names = Object.keys(media);
  const button = document.getElementById("theme");
  let theme = remember("neuron-explainer-theme") || "auto";
  if (!names.includes(theme)) theme = "auto";
  function apply() {
    document.getElementById("dark").media = media[theme];
    button.textContent = "Theme: " + theme;
  }
  button.addEventListener("click", () => {
    theme = names[(names.indexOf(theme) + 1) % names.length];
    remember("neuron-explainer-theme", theme);
    apply();
  });
  button.hidden = false;
  apply();
}

function setUpStretch() {
  const box = document.getElementById("stretch");
  if (!box) return;
  const apply = () => document.body.classList.toggle("stretch", box.checked);
  box.addEventListener("change", apply);
  apply(); // A browser may restore the box on reload.
}

function tokenUnder(target) {
  const token = target instanceof Element ? target.closest(".act > i") : null;
  if (!token) return null;
  const window = token.closest(".window");
  const place = Array.prototype.indexOf.call(token.parentNode.children, token);
  const both = [...window.querySelectorAll(".act")].map((side) => side.children[place]);
  const [real, simulated] = ["real", "simulated"].map((key) => window.dataset[key].split(" ")[place]);
  return { token, both, real, simulated };
}

function fillTip(tip, { token, real, simulated }) {
  const name = document.createElement("b");
  const before = token.previousSibling; // The space that starts a token stands before its element.
  name.textContent = (before && before.nodeType === Node.TEXT_NODE ? "·" : "") + token.textContent;
  const values = document.createElement("span");
  const truth = real === "-" ? "not counted" : real;
  values.textContent = `real ${truth}\nsimulated ${simulated === "-" ? "no prediction" : simulated}`;
  tip.replaceChildren(name, values);
}

function placeTip(tip, token) {
  const box = token.getClientRects()[0];
  const left = Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
  const above = box.top - tip.offsetHeight - 6;
  tip.style.left = Math.max(8, left) + "px";
  tip.style.top = (above > 48 ? above : box.bottom + 6) + "px";
}

function setUpTips() {
  const tip = document.getElementById("tip");
  let marked = [];
  function clear() {
    marked.forEach((element) => element.classList.remove("on"));
    marked = [];
    tip.hidden = true;
  }
  document.addEventListener("pointerover", (event) => {
    clear();
    const found = tokenUnder(event.target);
    if (!found) return;
    marked = found.both;
    marked.forEach((element) => element.classList.add("on"));
    fillTip(tip, found);
    tip.hidden = false;
    placeTip(tip, found.token);
  });
  document.addEventListener("scroll", clear, { passive: true });
}

setUpTheme();
setUpStretch();
setUpTips();
