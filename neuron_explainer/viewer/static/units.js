// The table of all units: only the rows that are seen are in the page; the others are asked for by
// their place as one scrolls.
"use strict";

(() => {
  const box = document.getElementById("rows");
  if (!box) return;
  const table = box.querySelector("table");
  const tbody = table.tBodies[0];
  const ROW = 34; // px, as in view.css
  const PAGE = 100;
  const MORE = 10; // rows above and below what is seen
  const pages = new Map(); // number of a page -> its rows, or a promise of them
  const MOST_PAGES = 60;
  const address = new URL(box.dataset.address, location.href);
  let total = Number(box.dataset.n);
  let version; // of the list that `pages` are of; a list that has changed is asked for anew
  const [above, below] = [space(), space()]; // as high as the rows that are not in the page
  const shown = new Map(); // place -> { line, row }, of what is in the page; a line stays as it is while it is seen

  const COLUMNS = ["unit", null, "score", null, "random", "baseline", "density"];
  const number = (value, digits = 2) => value.toFixed(digits).replace(/^-0\.00$/, "0.00").replace("-", "−");

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  function missing(reason) {
    return element("span", { className: "none", title: reason }, "–");
  }

  function rarity(share) {
    if (share === 0) return "none";
    if (share >= 0.01) return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
    return `1 in ${Number((1 / share).toPrecision(2)).toLocaleString("en")}`;
  }

  function printable(text) {
    const odd = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
    return text.replace(odd, (c) => `⟨U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
  }

  function rowElement(row) {
    const id = `${row.layer}:${row.neuron}`;
    const link = element("a", { className: "id", href: `${box.dataset.units}/${row.layer}/neurons/${row.neuron}` }, id);
    const text = element("td", { className: "text", title: row.explanation === null ? "" : printable(row.explanation) });
    if (row.explanation !== null) text.append(element("bdi", {}, printable(row.explanation)));
    if (row.reason !== null) text.append(element("small", {}, `${row.explanation === null ? "no explanation: " : " unscored: "}${printable(row.reason)}`));
    const cell = (value, write, why) => element("td", { className: "extra" }, value === null ? missing(why) : write(value));
    return element(
      "tr", {},
      element("th", { scope: "row" }, link),
      text,
      element("td", {}, row.score === null ? missing(row.reason ?? "not scored") : element("b", {}, number(row.score))),
      cell(row.low === null || row.high === null ? null : row, (r) => `${number(r.low)} to ${number(r.high)}`, "no interval"),
      cell(row.random_only, number, "no such score"),
      cell(row.baseline, number, "no baseline score"),
      cell(row.density, rarity, "not counted"),
    );
  }

  function space() {
    return element("tr", { className: "space", ariaHidden: "true" }, element("td")); // Some columns may be hidden.
  }

  function waiting() {
    return element("tr", {}, element("th", { scope: "row" }, "…"), element("td", { className: "text" }));
  }

  function fetchPage(page) {
    const asked = new URL(address);
    asked.searchParams.set("at", page * PAGE);
    asked.searchParams.set("n", PAGE);
    const promise = fetch(asked).then(async (answer) => {
      if (!answer.ok) throw new Error(String(answer.status));
      const found = await answer.json();
      if (found.version !== version || found.n_rows !== total) forget(found);
      pages.set(page, found.rows);
      draw();
    }).catch(() => pages.delete(page));
    pages.set(page, promise);
    for (const old of pages.keys()) {
      if (pages.size <= MOST_PAGES) break;
      if (Math.abs(old - page) > 3) pages.delete(old);
    }
  }

  function forget(found) {
    version = found.version;
    total = found.n_rows;
    document.getElementById("count").textContent = `${total.toLocaleString("en")} neuron${total === 1 ? "" : "s"}`;
    pages.clear();
    for (const place of [...shown.keys()]) remove(place);
  }

  function rowAt(place) {
    const page = Math.floor(place / PAGE);
    if (!pages.has(page)) fetchPage(page);
    const known = pages.get(page);
    return Array.isArray(known) ? known[place % PAGE] : undefined;
  }

  function remove(place) {
    const { line } = shown.get(place);
    if (line.contains(document.activeElement)) box.focus({ preventScroll: true });
    line.remove();
    shown.delete(place);
  }

  function put(place, before) {
    const row = rowAt(place);
    const there = shown.get(place);
    if (there && (there.row || !row)) return there.line;
    const line = row ? rowElement(row) : waiting();
    line.setAttribute("aria-rowindex", place + 2);
    if (there) there.line.replaceWith(line);
    else before.after(line);
    shown.set(place, { line, row });
    return line;
  }

  function draw() {
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - MORE);
    const last = Math.min(total, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + MORE);
    for (const place of [...shown.keys()]) if (place < first || place >= last) remove(place);
    let before = above;
    for (let place = first; place < last; place++) before = put(place, before);
    above.style.height = `${first * ROW}px`;
    below.style.height = `${(total - last) * ROW}px`;
    table.setAttribute("aria-rowcount", total + 1);
  }

  // Where one was: Back leads there

  function setUpPlace() {
    let timer;
    const keep = () => history.replaceState({ ...history.state, rowsTop: box.scrollTop }, "");
    box.addEventListener("scroll", () => {
      clearTimeout(timer);
      timer = setTimeout(keep, 100); // Browsers take only so many a minute.
    }, { passive: true });
    box.addEventListener("click", keep);
    below.style.height = `${total * ROW}px`; // so that there is room to scroll
    box.scrollTop = history.state?.rowsTop ?? 0;
  }

  function setUpHeadings() {
    const query = new URL(location.href).searchParams;
    const sort = address.searchParams.get("sort") ?? "unit";
    const descending = address.searchParams.get("desc") === "1";
    [...table.tHead.rows[0].cells].forEach((cell, i) => {
      if (COLUMNS[i] === null || COLUMNS[i] === undefined) return;
      const isCurrent = COLUMNS[i] === sort;
      if (isCurrent) cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const button = element("button", { type: "button" }, cell.textContent);
      button.addEventListener("click", () => {
        query.set("sort", COLUMNS[i]);
        query.set("desc", isCurrent ? Number(!descending) : Number(COLUMNS[i] !== "unit"));
        location.search = query;
      });
      cell.replaceChildren(button);
    });
  }

  box.classList.add("virtual");
  setUpHeadings();
  tbody.replaceChildren(above, below);
  setUpPlace();
  let isDue = false;
  box.addEventListener("scroll", () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      draw();
    });
  }, { passive: true });
  addEventListener("resize", () => draw());
  draw();
})();
