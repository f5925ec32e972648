/* What stands on the page, and what happens when somebody touches it. */
(() => {
  "use strict";
  const { range, map } = Attention;
  const graph = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const numFeatures = graph.features[0].length;
  const CHANNELS = 2;
  const MOST_STEPS = 20000;

  const state = { layer: "gat", scaling: "raw", slope: 0.2, params: {}, head: 0, pair: 0 };
  let start = {}; // the parameters before training
  let history = []; // what `measure` returns, at every step
  let isOverflown = false;
  let isPlaying = false;
  let lastSentence = "";
  let refreshSliders = [];

  // --- parameters --------------------------------------------------------------------------------

  const copyOf = (params) =>
    Object.fromEntries(Object.entries(params).map(([key, part]) => [key, map(part, (x) => x)]));
  const numHeads = () => state.params.bias.length;
  const settingOf = () => ({
    layer: state.layer, scaling: state.scaling, slope: state.slope, params: state.params,
  });

  /* Parameters of the heads of an example. */
  function paramsOf(heads) {
    const [{ heads: [article] }] = Words.PRESETS;
    const eye = range(numFeatures).map((f) => range(CHANNELS).map((c) => Number(f === c)));
    const kernel = (key) => range(numFeatures).map((f) =>
      heads.map((head) => ((head[key] && head[key][f]) || eye[f]).slice()));
    const half = (key, otherwise) => heads.map((head) => (head[key] || otherwise).slice());
    const zero = () => heads.map(() => range(CHANNELS).map(() => 0));
    return {
      kernel: kernel("W"), bias: zero(),
      aRecv: half("recv", article.recv), aSend: half("send", article.send),
      kernelRecv: kernel("Wrecv"), biasRecv: zero(), a: half("a", Words.ARTICLE_A),
    };
  }

  /* Keep the heads that there are, up to a number, and take those that are missing from examples. */
  function setHeads(count) {
    const spare = paramsOf(Words.SPARE);
    const resize = (heads, more) => range(count).map((h) => (heads[h] || more[h]).slice());
    const resized = Object.entries(state.params).map(([key, value]) => [
      key,
      key.startsWith("kernel")
        ? value.map((row, f) => resize(row, spare[key][f]))
        : resize(value, spare[key]),
    ]);
    state.params = Object.fromEntries(resized);
    state.head = Math.min(state.head, count - 1);
  }

  // --- controls ----------------------------------------------------------------------------------

  /* Sliders of the head that is shown: [group's title, [[label, key, feature or null, channel]]]. */
  function groups() {
    const vector = (title, key, symbol) => [
      title,
      range(CHANNELS).map((c) => [`${symbol}<sub>${c + 1}</sub>`, key, null, c]),
    ];
    const matrix = (title, key) => [
      title,
      range(numFeatures).flatMap((f) =>
        range(CHANNELS).map((c) => [`W<sub>${f + 1},${c + 1}</sub>`, key, f, c])),
    ];
    if (state.layer === "gat") {
      return [
        vector("<b>a</b>, receiver\u2019s half", "aRecv", "a"),
        vector("<b>a</b>, sender\u2019s half", "aSend", "a"),
        matrix("<b>W</b>", "kernel"),
        vector("<b>b</b>, bias", "bias", "b"),
      ];
    }
    return [
      vector("<b>a</b>", "a", "a"),
      matrix("<b>W</b> of the sender", "kernel"),
      matrix("<b>W</b> of the receiver", "kernelRecv"),
      vector("<b>b</b> of the sender", "bias", "b"),
      vector("<b>b</b> of the receiver", "biasRecv", "b"),
    ];
  }

  /* Add a slider to the page; `read` returns its number, and `write` is given a new one. */
  function addSlider({ id, label, spoken, low, high, read, write }) {
    const row = document.createElement("div");
    row.className = "slider";
    row.innerHTML = `<label for="${id}">${label}</label><input type="range" id="${id}" ` +
      `min="${low}" max="${high}" step="0.01"><output for="${id}"></output>`;
    const [input, output] = [row.querySelector("input"), row.querySelector("output")];
    input.setAttribute("aria-label", spoken);
    input.addEventListener("input", () => {
      write(Number(input.value));
      pressPreset(null);
      restart();
    });
    refreshSliders.push(() => {
      input.value = read();
      output.textContent = Draw.text(read(), 2);
    });
    byId("sliders").append(row);
  }

  function buildSliders() {
    byId("sliders").replaceChildren();
    refreshSliders = [];
    addSlider({
      id: "slope", label: "slope", spoken: "Slope of LeakyReLU", low: 0, high: 1,
      read: () => state.slope, write: (value) => { state.slope = value; },
    });
    for (const [title, entries] of groups()) {
      const heading = document.createElement("p");
      heading.className = "slider-title";
      heading.innerHTML = title;
      byId("sliders").append(heading);
      for (const [label, key, f, c] of entries) {
        const feature = f === null ? "" : `feature ${f + 1}, `;
        const part = () => (f === null ? state.params[key] : state.params[key][f])[state.head];
        addSlider({
          id: `${key}-${f === null ? "" : `${f}-`}${c}`, label, low: -2, high: 2,
          spoken: `${heading.textContent}, ${feature}channel ${c + 1}`,
          read: () => part()[c], write: (value) => { part()[c] = value; },
        });
      }
    }
  }

  function choose(name, value) {
    for (const input of document.getElementsByName(name)) {
      input.checked = input.value === String(value);
    }
  }

  function onChoice(name, act) {
    for (const input of document.getElementsByName(name)) {
      input.addEventListener("change", () => act(input.value));
    }
  }

  function usePreset(preset) {
    Object.assign(state, {
      layer: preset.layer || "gat", scaling: preset.scaling || "raw", slope: 0.2, head: 0,
      params: paramsOf(preset.heads),
    });
    rebuild();
    byId("about").textContent = graph.is_tutorial ? preset.about : "";
    pressPreset(preset);
  }

  function pressPreset(preset) {
    for (const button of byId("presets").children) {
      button.setAttribute("aria-pressed", preset !== null && button.value === preset.name);
    }
  }

  // --- what is seen ------------------------------------------------------------------------------

  /* The numbers of the chosen pair that are followed over training. */
  function measure(seen) {
    const shares = graph.pairs[state.pair].flatMap((node) => seen.normalised[node]);
    return {
      entropy: Attention.sum(shares) / shares.length,
      gap: seen.gaps[state.pair],
      loss: seen.loss,
      isEqual: seen.causes[state.pair].every(Attention.isEqualBy),
    };
  }

  function draw() {
    const setting = settingOf();
    const seen = Attention.evaluate(graph, setting);
    const now = measure(seen);
    const [pair, h] = [graph.pairs[state.pair], state.head];
    const signs = (i) =>
      (seen.rows[i].length > 0 ? Attention.signsOf(graph, setting, seen, i, h) : []);
    const sentence = Words.sentenceOf(state.layer, pair, seen.causes[state.pair]);
    if (sentence !== lastSentence) byId("sentence").innerHTML = sentence; // is read aloud then
    lastSentence = sentence;
    byId("verdict").className = now.isEqual ? "" : "apart";
    byId("facts").innerHTML = Draw.facts(now);
    byId("graph").innerHTML = Draw.graphPicture(graph, seen, pair, h, now.isEqual);
    byId("plane").innerHTML = planes(seen, pair.map(signs));
    const others = range(graph.features.length).filter((i) => !pair.includes(i));
    byId("rows").innerHTML = [...pair, ...others]
      .map((i) => Draw.rowCard(graph, seen, pair, h, i, signs(i))).join("");
    refreshSliders.forEach((refresh) => refresh());
    byId("count").textContent = history.length - 1;
    byId("story").textContent = Words.storyOf(history, isOverflown);
    byId("curves").innerHTML = curves();
  }

  /* The plane of every part of the logits. */
  function planes(seen, signs) {
    const [pair, h] = [graph.pairs[state.pair], state.head];
    const numParts = signs[0].length;
    return range(numParts).map((part) => {
      const isDead = state.layer === "gatv2" && state.params.a[h][part] === 0;
      const title = numParts > 1 ? `<p class="muted">Channel ${part + 1}</p>` : "";
      const rows = signs.map((row) => row[part]);
      const isOnePiece = isDead || state.slope === 1;
      return title + Draw.planePicture(graph, seen, pair, h, part, rows, isOnePiece);
    }).join("");
  }

  function curves() {
    const values = (name) => history.map((record) => record[name]);
    const [entropy, gap, loss] = ["entropy", "gap", "loss"].map(values);
    return Draw.curve({
      title: "Entropy / maximum", values: entropy, colour: "var(--second)", low: 0.8, high: 1,
    }) + Draw.curve({
      title: "Twin gap", values: gap, colour: "var(--other)", low: 0, high: 0.1,
    }) + Draw.curve({
      title: "Loss", values: loss, colour: "var(--equal)", low: 0, high: 0.7, floor: graph.floor,
    });
  }

  /* Somebody moved something: training begins anew from here. */
  function restart() {
    pause();
    start = copyOf(state.params);
    isOverflown = false;
    history = [measure(Attention.evaluate(graph, settingOf()))];
    draw();
  }

  function rebuild() {
    choose("layer", state.layer);
    choose("heads", numHeads());
    choose("scaling", state.scaling);
    choose("head", state.head);
    byId("head").hidden = numHeads() === 1;
    for (const input of document.getElementsByName("head")) {
      input.parentElement.hidden = Number(input.value) >= numHeads();
    }
    buildSliders();
    restart();
  }

  // --- gradient descent --------------------------------------------------------------------------

  const rate = () => 10 ** Number(byId("rate").value);

  function train(steps) {
    for (let k = 0; k < steps && !isOverflown; k += 1) {
      const setting = settingOf();
      const next = Attention.step(state.params, Attention.gradientOf(graph, setting), rate());
      const seen = Attention.evaluate(graph, { ...setting, params: next });
      isOverflown = !Number.isFinite(seen.loss);
      if (isOverflown) break;
      state.params = next;
      history.push(measure(seen));
    }
    if (isOverflown || history.length > MOST_STEPS) pause();
    draw();
  }

  function pause() {
    isPlaying = false;
    byId("play").textContent = "Play";
  }

  function play() {
    isPlaying = true;
    byId("play").textContent = "Pause";
    const frame = () => {
      if (!isPlaying) return;
      train(Number(byId("speed").value));
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  function showRates() {
    byId("rate-text").textContent = Draw.text(rate(), 3);
    byId("speed-text").textContent = byId("speed").value;
  }

  // --- random parameters -------------------------------------------------------------------------

  function drawAtRandom(times) {
    const isEqual = () => {
      state.params = Attention.draw(Math.random, numFeatures, numHeads(), CHANNELS);
      return measure(Attention.evaluate(graph, settingOf())).isEqual;
    };
    const count = range(times).filter(isEqual).length;
    byId("luck").textContent = times === 1
      ? `This start makes the twins ${count ? "equal" : "different"}.`
      : `${count} of ${times.toLocaleString("en")} random starts make the twins equal. ` +
        "The last one is shown.";
    pressPreset(null);
    restart();
  }

  // --- the beginning -----------------------------------------------------------------------------

  const presets = Words.PRESETS.filter((preset) => graph.is_tutorial || preset.elsewhere);
  for (const preset of presets) {
    const button = document.createElement("button");
    button.type = "button";
    button.value = preset.name;
    button.textContent = graph.is_tutorial ? preset.name : preset.elsewhere;
    button.addEventListener("click", () => usePreset(preset));
    byId("presets").append(button);
  }
  graph.pairs.forEach(([i, k], p) => byId("pair").add(new Option(`${i} and ${k}`, p)));
  byId("pair-choice").hidden = graph.pairs.length < 2;
  byId("task").textContent = graph.labels.map((label) => (label < 0 ? "none" : label)).join(", ");
  byId("pair").addEventListener("change", () => {
    state.pair = Number(byId("pair").value);
    restart();
  });
  onChoice("layer", (value) => { state.layer = value; pressPreset(null); rebuild(); });
  onChoice("scaling", (value) => { state.scaling = value; pressPreset(null); restart(); });
  onChoice("heads", (value) => { setHeads(Number(value)); pressPreset(null); rebuild(); });
  onChoice("head", (value) => { state.head = Number(value); buildSliders(); draw(); });
  byId("play").addEventListener("click", () => (isPlaying ? pause() : play()));
  byId("step").addEventListener("click", () => { pause(); train(1); });
  byId("reset").addEventListener("click", () => { state.params = copyOf(start); restart(); });
  byId("draw").addEventListener("click", () => drawAtRandom(1));
  byId("draw-many").addEventListener("click", () => drawAtRandom(1000));
  for (const id of ["rate", "speed"]) byId(id).addEventListener("input", showRates);
  showRates();
  usePreset(presets[0]);
})();
