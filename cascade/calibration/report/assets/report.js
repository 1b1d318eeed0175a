"use strict";
// The sliders of a report. Figures are summed from the table of counts in the page: a row stands for all requests whose
// replies have the same levels. A climb ends at the first rung whose level number reaches the slider's.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const sliders = data.labels.map((_, rung) => byId(`slider-${rung}`));
  const top = data.rungs.length - 1;
  const rows = data.items.length;
  const passed = data.left || data.cost; // what a climb pays at the rungs that it leaves: early stop closes replies

  function figures(at) {
    const ended = new Array(top + 1).fill(0);
    let score = 0, cost = 0, lost = 0;
    for (let row = 0; row < rows; row += 1) {
      let rung = 0;
      while (rung < top && data.codes[rung][row] < at[rung]) {
        cost += passed[rung][row];
        rung += 1;
      }
      cost += data.cost[rung][row];
      score += data.score[rung][row];
      lost += data.lost[rung][row];
      ended[rung] += data.items[row];
    }
    return { quality: score / data.n, cost, perThousand: cost / data.n / 1e6, risk: lost / data.n, ended };
  }

  const topCost = data.cost[top].reduce((sum, own) => sum + own, 0);
  const percent = (share, digits = 2) => `${(share * 100).toFixed(digits)}%`;
  const number = (value, digits) =>
    value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

  function put(id, text, value) {
    const output = byId(id);
    output.textContent = text;
    if (value !== undefined) output.dataset.value = String(value);
  }

  function place(axis, value) {
    const [low, high, start, end] = axis;
    return start + ((Math.min(Math.max(value, low), high) - low) / (high - low)) * (end - start);
  }

  // Quote what YAML 1.1 would not read as a string, and everything but plain words.
  const word = (text) =>
    /^[A-Za-z][A-Za-z0-9_.-]*$/.test(text) && !/^(y|n|yes|no|on|off|true|false|null)$/i.test(text) ? text : JSON.stringify(text);
  const line = (text) => text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufeff]/g, " ");

  // A rung's samples, and its threshold unless their agreement decides alone.
  const keys = (rung, label) =>
    `${data.samples[rung] ? `, samples: ${data.samples[rung]}` : ""}${label === "agreement" ? "" : `, threshold: ${label}`}`;

  function yaml(at, found, state) {
    const comments = [`quality ${found.quality.toFixed(4)}, risk ${percent(found.risk)}`, `${found.perThousand.toFixed(4)} USD per 1,000`];
    const rungs = data.rungs.map((rung, index) =>
      index === top ? `  - {rung: ${word(rung)}}` : `  - {rung: ${word(rung)}${keys(index, data.labels[index][at[index] - 1])}}`);
    return [`# ${line(data.corpus)}: ${state}`, ...comments.map((text) => `# ${text}`), "ladder:", ...rungs, ""].join("\n");
  }

  function show() {
    const at = sliders.map((slider) => Number(slider.value));
    const found = figures(at);
    sliders.forEach((slider, rung) => {
      const label = data.labels[rung][at[rung] - 1];
      slider.setAttribute("aria-valuetext", label);
      byId(`threshold-${rung}`).textContent = label;
    });
    put("quality", found.quality.toFixed(4), found.quality);
    put("cost", number(found.perThousand, 4), found.perThousand);
    put("risk", percent(found.risk), found.risk);
    const saved = topCost ? 1 - found.cost / topCost : null;
    put("saved", saved === null ? "–" : percent(Math.abs(saved), 1));
    const label = byId("saved-label");
    label.textContent = saved < 0 ? label.dataset.dearer : label.dataset.saved;
    let reached = data.n;
    found.ended.forEach((here, rung) => {
      put(`reached-${rung}`, number(reached, 0), reached);
      put(`answered-${rung}`, number(here, 0), here);
      put(`sent-${rung}`, rung === top || !reached ? "–" : percent((reached - here) / reached));
      byId(`here-${rung}`).setAttribute("width", (100 * here) / data.n);
      byId(`up-${rung}`).setAttribute("x", (100 * here) / data.n);
      byId(`up-${rung}`).setAttribute("width", (100 * (reached - here)) / data.n);
      reached -= here;
    });
    byId("you").setAttribute("cx", place(data.x, found.perThousand));
    byId("you").setAttribute("cy", place(data.y, found.quality));
    const state = at.every((level, rung) => level === data.start[rung]) ? data.chosen : data.moved;
    byId("yaml").textContent = yaml(at, found, state);
    return found;
  }

  function announce(text, where = "said") {
    byId(where).textContent = text;
  }

  async function copy(event) {
    const { copies, said } = event.currentTarget.dataset;
    const text = byId(copies).textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // If the page may not write to the clipboard: copy the selection, or leave it selected for the reader.
      const range = document.createRange();
      range.selectNodeContents(byId(copies));
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      if (!document.execCommand("copy")) {
        announce("Selected: copy it with the keyboard.", said);
        return;
      }
    }
    announce("Copied.", said);
  }

  for (const slider of sliders) {
    slider.addEventListener("input", show);
    // Announced to screen readers when the slider rests, not at every step.
    slider.addEventListener("change", () => {
      const found = show();
      announce(`Quality ${found.quality.toFixed(4)}, ${found.perThousand.toFixed(4)} USD per 1,000, risk ${percent(found.risk)}.`);
    });
  }
  byId("reset").addEventListener("click", () => {
    sliders.forEach((slider, rung) => { slider.value = String(data.start[rung]); });
    show();
    announce("Thresholds reset.");
  });
  document.querySelectorAll("[data-copies]").forEach((button) => { button.addEventListener("click", copy); });
  const votes = byId("votes");
  function showVote() {
    const [most, name, quality, perThousand, risk] = data.votes[Number(votes.value)];
    votes.setAttribute("aria-valuetext", `${most}: ${name}`);
    byId("votes-most").textContent = most;
    byId("votes-name").textContent = name;
    put("votes-quality", quality.toFixed(4), quality);
    put("votes-cost", number(perThousand, 4), perThousand);
    put("votes-risk", percent(risk), risk);
    document.querySelectorAll("[data-vote]").forEach((row) => { row.classList.toggle("at", row.dataset.vote === votes.value); });
  }
  if (votes) {
    votes.addEventListener("input", showVote);
    showVote();
  }
  document.documentElement.classList.add("live");
  show();
})();
