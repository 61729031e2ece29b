// Your own explanation: its cost is shown, and agreed to, before anything is asked.
"use strict";

function setUpOwn() {
  const section = document.getElementById("own");
  const form = document.getElementById("own-form");
  if (!form) return;
  const address = section.dataset.address;
  const said = document.getElementById("own-said");
  const scoreButton = document.getElementById("own-score");
  const askButton = document.getElementById("own-ask");
  let agreed = null; // The cost that is shown for the words in the form.

  function say(text) {
    said.textContent = text;
  }

  function work(isBusy) {
    form.setAttribute("aria-busy", String(isBusy));
    for (const control of [askButton, scoreButton]) control.disabled = isBusy;
  }

  async function post(to) {
    const body = JSON.stringify({ text: form.text.value, author: form.author.value, agreed: agreed ?? "" });
    const response = await fetch(to, { method: "POST", headers: { "Content-Type": "application/json" }, body });
    const answer = await response.json();
    if (!response.ok) throw Object.assign(new Error(answer.error ?? answer.detail), { cost: answer.cost });
    return answer;
  }

  function showCost(cost) {
    agreed = cost.asked;
    const left = cost.left_usd === null ? "" : `; $${cost.left_usd.toFixed(4)} of the budget are left`;
    say(`${cost.asked}${left}.` + (cost.fits ? "" : " That does not fit the budget; start the viewer with a larger --budget-usd."));
    scoreButton.hidden = !cost.fits;
    if (cost.fits) scoreButton.focus();
  }

  async function ask() {
    work(true);
    say("Counting …");
    try {
      const cost = await post(`${address}/cost`);
      work(false);
      showCost(cost);
    } catch (error) {
      work(false);
      say(error.message);
    }
  }

  async function score() {
    work(true);
    say("Being simulated; this takes as long as the model takes for all windows …");
    try {
      const own = await post(address);
      const { value, reason } = own.scores[own.headline];
      const list = await fetch(address);
      const place = document.getElementById("own-list");
      place.innerHTML = await list.text(); // Escaped by the server.
      applyStyles(place);
      form.text.value = "";
      forget();
      say(value === null ? `No score: ${reason}.` : `Score ${value.toFixed(2)}; it is in the list below.`);
    } catch (error) {
      if (error.cost) showCost(error.cost);
      say(error.cost ? `${error.message}. ${said.textContent}` : error.message);
    }
    work(false);
  }

  function forget() {
    agreed = null;
    scoreButton.hidden = true;
    say("");
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  form.text.addEventListener("input", forget);
  scoreButton.addEventListener("click", score);
  form.hidden = false;
}

setUpOwn();
