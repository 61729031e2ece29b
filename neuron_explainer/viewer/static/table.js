// The table of all neurons: search, filter, sort, pages.
// A row is [layer, neuron, text, reason, low, high, score, ...]; see `embedded_table`.
(() => {
  const data = JSON.parse(document.getElementById("neurons").textContent);
  const [LAYER, NEURON, TEXT, REASON, LOW, HIGH, SCORES] = [0, 1, 2, 3, 4, 5, 6];
  const collator = new Intl.Collator("en", { numeric: true });
  const state = { query: "", layer: "", status: "", column: 2, descending: true, page: 0, size: 50 };
  const columns = [
    { label: "neuron", key: null, descending: false },
    { label: "explanation", key: (row) => row[TEXT], descending: false },
    ...data.columns.map((label, i) => ({ label, key: (row) => row[SCORES + i], descending: true })),
  ];
  const searchable = data.rows.map((row) => `${row[LAYER]}:${row[NEURON]} ${row[TEXT] ?? ""}`.toLowerCase());
  const order = data.rows.map((_, i) => i);
  const $ = (id) => document.getElementById(id);
  let matches = order;

  const reasonOf = (row, value) => data.reasons[value === null ? row[REASON] : Number(value)] ?? "not computed";
  const written = (value) => (value === 0 ? "0.00" : value.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "−"));

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  // Search and order

  function predicate() {
    const query = state.query.trim().toLowerCase();
    const isId = /^\d+:\d*$/.test(query);
    const words = query.split(/\s+/).filter(Boolean);
    return (i) => {
      const row = data.rows[i];
      if (state.layer !== "" && row[LAYER] !== Number(state.layer)) return false;
      if (state.status !== "" && (row[REASON] === null) !== (state.status === "scored")) return false;
      if (isId) return searchable[i].startsWith(query);
      return words.every((word) => searchable[i].includes(word));
    };
  }

  function comparison() {
    const { key } = columns[state.column];
    const sign = state.descending ? -1 : 1;
    if (!key) return (a, b) => sign * (a - b); // The rows come in the order of their ids.
    const text = state.column === 1;
    const usable = (value) => (text ? value !== null : typeof value === "number");
    return (a, b) => {
      const [x, y] = [key(data.rows[a]), key(data.rows[b])];
      if (!usable(x) || !usable(y)) return usable(y) - usable(x) || a - b; // Missing ones stay last.
      return sign * (text ? collator.compare(x, y) : x - y) || a - b;
    };
  }

  function update(changes) {
    Object.assign(state, { page: 0 }, changes);
    matches = order.filter(predicate()).sort(comparison());
    draw();
  }

  // Drawing

  function intervalBar(row) {
    const [low, high] = data.axis;
    const percent = (x) => Math.min(100, Math.max(0, (100 * (x - low)) / (high - low)));
    const mark = (className, style) => {
      const made = element("i", { className });
      Object.assign(made.style, style);
      return made;
    };
    const bar = element("span", { className: "track" }, mark("tick", { left: percent(0) + "%" }));
    if (row[LOW] !== null && row[HIGH] !== null) {
      bar.append(mark("range", { left: percent(row[LOW]) + "%", right: 100 - percent(row[HIGH]) + "%" }));
      bar.title = `95 % interval ${written(row[LOW])} to ${written(row[HIGH])}`;
    }
    bar.append(mark("dot", { left: percent(row[SCORES]) + "%" }));
    return bar;
  }

  function scoreCell(row, i) {
    const value = row[SCORES + i];
    if (typeof value !== "number") {
      const reason = reasonOf(row, value);
      return element("td", {}, element("span", { className: "none", title: reason, role: "img", ariaLabel: `no value: ${reason}` }, "–"));
    }
    return element("td", {}, ...(i === 0 ? [intervalBar(row), element("b", {}, written(value))] : [written(value)]));
  }

  function idCell(row) {
    const id = `${row[LAYER]}:${row[NEURON]}`;
    const card = $(`n-${row[LAYER]}-${row[NEURON]}`) ?? $(`m-${row[LAYER]}-${row[NEURON]}`);
    const content = card ? element("a", { href: "#" + card.id, title: "shown in full above" }, id) : id;
    return element("th", { scope: "row" }, content);
  }

  function textCell(row) {
    const cell = element("td", { className: "text" });
    if (row[TEXT] !== null) cell.append(element("bdi", {}, row[TEXT]));
    if (row[REASON] !== null) {
      const label = row[TEXT] === null ? "no explanation: " : " unscored: ";
      cell.append(element("small", {}, label + data.reasons[row[REASON]]));
    }
    return cell;
  }

  function draw() {
    const last = Math.max(0, Math.ceil(matches.length / state.size) - 1);
    state.page = Math.min(Math.max(0, state.page), last);
    const start = state.page * state.size;
    const shown = matches.slice(start, start + state.size).map((i) => data.rows[i]);
    $("table").tBodies[0].replaceChildren(
      ...shown.map((row) => element("tr", {}, idCell(row), textCell(row), ...data.columns.map((_, i) => scoreCell(row, i)))),
    );
    [...$("table").tHead.rows[0].cells].forEach((cell, i) => {
      if (i === state.column) cell.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    const many = (n) => n.toLocaleString("en");
    const of = matches.length === data.rows.length ? "" : ` of ${many(data.rows.length)}`;
    $("count").textContent = `${many(matches.length)}${of} neurons`;
    $("place").textContent = matches.length ? `${many(start + 1)}–${many(start + shown.length)} of ${many(matches.length)}` : "no match";
    for (const button of $("pager").querySelectorAll("button")) {
      const back = ["first", "previous"].includes(button.dataset.step);
      button.disabled = back ? state.page === 0 : state.page === last;
    }
  }

  // Controls

  function addHeader(column, i) {
    const button = element("button", { type: "button" }, column.label);
    button.addEventListener("click", () => {
      const again = state.column === i;
      update({ column: i, descending: again ? !state.descending : column.descending });
    });
    const cell = element("th", { scope: "col", className: i === 1 ? "text" : "" }, button);
    $("table").tHead.rows[0].append(cell);
  }

  function setUpFilters() {
    for (const layer of [...new Set(data.rows.map((row) => row[LAYER]))].sort((a, b) => a - b)) {
      $("layer").append(element("option", { value: layer }, String(layer)));
    }
    let timer;
    $("query").addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => update({ query: $("query").value }), 80);
    });
    for (const id of ["layer", "status"]) $(id).addEventListener("change", () => update({ [id]: $(id).value }));
    $("size").addEventListener("change", () => update({ size: Number($("size").value) }));
    $("filters").addEventListener("submit", (event) => event.preventDefault());
    document.addEventListener("click", (event) => {
      const link = event.target instanceof Element ? event.target.closest("a[data-layer]") : null;
      if (!link) return;
      $("layer").value = link.dataset.layer;
      update({ layer: link.dataset.layer });
    });
  }

  function setUpPager() {
    const steps = { first: () => 0, previous: (page) => page - 1, next: (page) => page + 1, last: () => Infinity };
    $("pager").addEventListener("click", (event) => {
      const step = event.target.dataset.step;
      if (!step) return;
      state.page = steps[step](state.page);
      draw();
      $("all").scrollIntoView();
    });
  }

  columns.forEach(addHeader);
  setUpFilters();
  setUpPager();
  for (const id of ["filters", "table", "pager"]) $(id).hidden = false;
  // A reload keeps what was typed.
  update({ query: $("query").value, layer: $("layer").value, status: $("status").value, size: Number($("size").value) });
})();
