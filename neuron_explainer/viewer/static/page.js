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

function applyStyles(within) {
  // The policy lets no text set a style; the parts that a server sends have theirs beside.
  for (const element of within.querySelectorAll("[data-style]")) element.style.cssText = element.dataset.style;
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
  const boxes = [...document.querySelectorAll("input.stretches")];
  function apply(checked) {
    document.body.classList.toggle("stretch", checked);
    for (const box of boxes) box.checked = checked;
  }
  for (const box of boxes) box.addEventListener("change", () => apply(box.checked));
  apply(boxes.some((box) => box.checked)); // A browser may restore a box on reload.
}

function tokenUnder(target) {
  const token = target instanceof Element ? target.closest(".act > i") : null;
  if (!token) return null;
  const window = token.closest(".window");
  const place = Array.prototype.indexOf.call(token.parentNode.children, token);
  const sides = [...window.querySelectorAll(".act")];
  const marked = sides.map((side) => side.children[place]);
  const values = sides.map((side) => [side.dataset.name, side.dataset.values.split(" ")[place]]);
  return { token, marked, values };
}

function fillTip(tip, { token, values }) {
  const name = document.createElement("b");
  const before = token.previousSibling; // The space that starts a token stands before its element.
  name.textContent = (before && before.nodeType === Node.TEXT_NODE ? "·" : "") + token.textContent;
  const lines = document.createElement("span");
  const missing = (i) => (i === 0 ? "not counted" : "no prediction"); // Real activations come first.
  lines.textContent = values.map(([side, value], i) => `${side} ${value === "-" ? missing(i) : value}`).join("\n");
  tip.replaceChildren(name, lines);
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
    marked = found.marked;
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
