// Search of a site of files: all words must be in an explanation; the best by score come first.
"use strict";

const MOST_SHOWN = 200;

function setUpFind() {
  const found = document.getElementById("found");
  const table = document.getElementById("hits");
  const words = document.getElementById("words");
  let units = null; // [layer, neuron, text or null, score or null], the best by score first.

  function matcher(query) {
    const unit = query.match(/^\s*(\d+):(\d+)\s*$/);
    if (unit) return ([layer, neuron]) => layer === Number(unit[1]) && neuron === Number(unit[2]);
    const parts = query.toLowerCase().split(/\s+/).filter(Boolean);
    return ([, , text]) => text !== null && parts.every((part) => text.toLowerCase().includes(part));
  }

  function row([layer, neuron, text, score]) {
    const line = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    const link = document.createElement("a");
    link.className = "id";
    link.href = `layers/${layer}/neurons/${neuron}.html`;
    link.textContent = `${layer}:${neuron}`;
    head.append(link);
    const said = document.createElement("td");
    said.className = "text";
    const isolated = document.createElement("bdi");
    isolated.textContent = text ?? "no explanation";
    said.append(isolated);
    const value = document.createElement("td");
    value.textContent = score === null ? "–" : score.toFixed(2).replace("-", "−");
    line.append(head, said, value);
    return line;
  }

  function show() {
    const hits = words.value.trim() ? units.filter(matcher(words.value)) : [];
    table.tBodies[0].replaceChildren(...hits.slice(0, MOST_SHOWN).map(row));
    table.hidden = hits.length === 0;
    const more = hits.length > MOST_SHOWN ? `, the first ${MOST_SHOWN} are shown` : "";
    found.textContent = words.value.trim() ? `${hits.length} of ${units.length} neurons${more}` : `${units.length} neurons`;
  }

  fetch(found.dataset.units)
    .then((response) => response.json())
    .then((read) => {
      units = read;
      document.getElementById("find-row").hidden = false;
      words.addEventListener("input", show);
      words.focus();
    })
    .catch(() => {
      found.textContent = "The list of neurons cannot be read; a page opened from disk may not read others. Put the folder on a web host, such as python -m http.server.";
    });
}

setUpFind();
