/* What stands on the page and what happens when somebody touches it. */
(() => {
  "use strict";
  const { range, map } = Attention;
  const graph = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const numFeatures = graph.features[0].length;
  const CHANNELS = 2;
  const copyOf = (params) => Object.fromEntries(Object.entries(params).map(([name, part]) => [name, map(part, (x) => x)]));

  // --- parameters and examples -------------------------------------------------------------------

  const eye = (scale) => range(numFeatures).map((f) => range(CHANNELS).map((c) => (f % CHANNELS === c ? scale : 0)));
  /* Heads are given as {W, recv, send, a, Wrecv}; what is left out is as in the article. */
  function paramsOf(heads) {
    const kernels = (name, scale) => range(numFeatures).map((f) => heads.map((head) => (head[name] || eye(scale))[f].slice()));
    const half = (name, otherwise) => heads.map((head) => (head[name] || otherwise).slice());
    const nothing = () => heads.map(() => range(CHANNELS).map(() => 0));
    return {
      kernel: kernels("W", 1), bias: nothing(), aRecv: half("recv", ARTICLE.recv), aSend: half("send", ARTICLE.send),
      kernelRecv: kernels("Wrecv", 1), biasRecv: nothing(), a: half("a", ARTICLE.a),
    };
  }
  const ARTICLE = { recv: [-0.2, 0.3], send: [0.1, -0.1], a: [0.3, -0.2] };
  const APART = { recv: [-0.4, 0.2], send: [0.3, -0.1] };
  const OTHERS = [{ recv: [0.3, -0.4], send: [0.2, 0.1] }, { recv: [0.1, 0.2], send: [-0.1, 0.3] }];
  const PRESETS = [
    { name: "The article\u2019s case", heads: [ARTICLE],
      about: "W is the identity and a = [\u22120.2, 0.3 | 0.1, \u22120.1]. All senders have the same score, so attention is uniform. But look at the signs too: all logits are positive, and that is what keeps the twins equal once a moves." },
    { name: "Separated", heads: [APART],
      about: "Logits of both signs: LeakyReLU bends between them, and the receiver\u2019s part no longer cancels." },
    { name: "GATv2", layer: "gatv2", heads: [{ a: [0.5, -0.4], Wrecv: eye(-0.8) }],
      about: "GATv2 bends every channel by itself. Twins are equal only where every channel stays on one side of its bend, which is rarer." },
    { name: "Standardised features", scaling: "standardised", heads: [{ recv: [-0.2, 0.3], send: [0.3, 0.1] }],
      about: "Raw features 0 to 7 are all positive, so logits tend to have one sign. Around zero they have both. Switch the features to raw, and these same parameters make the twins equal." },
    { name: "Two heads", heads: [ARTICLE, APART],
      about: "Twins are equal only if every head makes them equal. Head 1 is the article\u2019s and does; head 2 separates them." },
  ];

  const state = { layer: "gat", scaling: "raw", slope: 0.2, params: paramsOf([ARTICLE]), head: 0, pair: 0 };
  let start = null; // the parameters before training
  let history = [];
  let isPlaying = false;
  let lastWords = "";

  const numHeads = () => state.params.bias.length;
  const settingOf = () => ({ layer: state.layer, scaling: state.scaling, slope: state.slope, params: state.params });

  // --- controls ----------------------------------------------------------------------------------

  /* Sliders of the head that is shown: [group's title, [[label, where its number lies], ...]]. */
  function groups() {
    const names = (symbol, sizes) => range(sizes).map((c) => [`${symbol}<sub>${c + 1}</sub>`, c]);
    const vector = (title, key, symbol) => [title, names(symbol, CHANNELS).map(([label, c]) => [label, key, null, c])];
    const matrix = (title, key, symbol) => [title, range(numFeatures).flatMap((f) =>
      range(CHANNELS).map((c) => [`${symbol}<sub>${f + 1},${c + 1}</sub>`, key, f, c]))];
    return state.layer === "gat"
      ? [vector("<b>a</b>, receiver\u2019s half", "aRecv", "a"), vector("<b>a</b>, sender\u2019s half", "aSend", "a"),
        matrix("<b>W</b>", "kernel", "W"), vector("<b>b</b>, bias", "bias", "b")]
      : [vector("<b>a</b>", "a", "a"), matrix("<b>W</b> of the sender", "kernel", "W"),
        matrix("<b>W</b> of the receiver", "kernelRecv", "W"), vector("<b>b</b> of the sender", "bias", "b"),
        vector("<b>b</b> of the receiver", "biasRecv", "b")];
  }
  const placeOf = (key, f) => (f === null ? state.params[key] : state.params[key][f])[state.head];

  function addSlider(parent, id, label, [low, high], spoken) {
    const row = document.createElement("div");
    row.className = "slider";
    row.innerHTML = `<label for="${id}">${label}</label><input type="range" id="${id}" min="${low}" max="${high}" step="0.01"><output for="${id}"></output>`;
    row.querySelector("input").setAttribute("aria-label", spoken);
    parent.append(row);
    return [row.querySelector("input"), row.querySelector("output")];
  }

  let shownSliders = [];
  function buildSliders() {
    const parent = byId("sliders");
    parent.replaceChildren();
    shownSliders = [];
    const [slope, slopeText] = addSlider(parent, "slope", "slope", [0, 1], "Slope of LeakyReLU");
    slope.addEventListener("input", () => { state.slope = Number(slope.value); restart(); pressPreset(null); });
    shownSliders.push(() => show(slope, slopeText, state.slope));
    for (const [title, entries] of groups()) {
      const heading = document.createElement("p");
      heading.className = "slider-title";
      heading.innerHTML = title;
      parent.append(heading);
      for (const [label, key, f, c] of entries) {
        const spoken = `${heading.textContent}, ${f === null ? "" : `feature ${f + 1}, `}channel ${c + 1}`;
        const id = `${key}-${f === null ? "" : `${f}-`}${c}`;
        const [input, output] = addSlider(parent, id, label, [-2, 2], spoken);
        input.addEventListener("input", () => { placeOf(key, f)[c] = Number(input.value); restart(); pressPreset(null); });
        shownSliders.push(() => show(input, output, placeOf(key, f)[c]));
      }
    }
  }
  function show(input, output, value) {
    input.value = value;
    output.textContent = Draw.text(value, 2);
  }

  function choose(name, value) {
    for (const input of document.getElementsByName(name)) input.checked = input.value === String(value);
  }
  function onChoice(name, act) {
    for (const input of document.getElementsByName(name)) {
      input.addEventListener("change", () => { if (input.checked) act(input.value); });
    }
  }

  /* The same parameters with more heads or fewer; new ones are examples, turned a little. */
  function setHeads(count) {
    const spare = paramsOf([ARTICLE, APART, ...OTHERS]);
    const resize = (heads, more) => range(count).map((h) => (heads[h] || more[h]).slice());
    const resized = ([key, value]) => [key, key.startsWith("kernel")
      ? value.map((row, f) => resize(row, spare[key][f])) : resize(value, spare[key])];
    state.params = Object.fromEntries(Object.entries(state.params).map(resized));
    state.head = Math.min(state.head, count - 1);
  }

  function usePreset(preset) {
    Object.assign(state, { layer: preset.layer || "gat", scaling: preset.scaling || "raw", slope: 0.2, head: 0 });
    state.params = paramsOf(preset.heads);
    rebuild();
    byId("about").textContent = preset.about;
    pressPreset(preset.name);
  }
  function pressPreset(name) {
    for (const button of byId("presets").children) button.setAttribute("aria-pressed", button.textContent === name);
  }

  // --- what is seen ------------------------------------------------------------------------------

  const REASONS = {
    trivial: "each receives from one node only, whatever the parameters",
    linear: "with slope 1 LeakyReLU is a straight line, and the softmax cancels what belongs to the receiver",
    equal_query: "both ask the same: their receiver\u2019s parts c are equal",
    positive: "every logit of both rows is positive, where LeakyReLU is a straight line, so the softmax cancels what belongs to the receiver",
    negative: "every logit of both rows is negative, where LeakyReLU is a straight line, so the softmax cancels what belongs to the receiver",
    uniform: "all their senders have the same score, so attention is uniform whoever asks",
    channelwise: "every channel stays on one side of its bend or does not vary, though not all for the same reason",
    rounding: "their outputs agree to rounding only",
    separated: "their logits do not all have one sign, so LeakyReLU bends between them and the receiver\u2019s part no longer cancels",
    bent: "in some channel their sums c + n do not all have one sign, so LeakyReLU bends between them and the receiver\u2019s part no longer cancels",
  };

  /* One sentence on a pair, from the causes by head. */
  function sentenceOf([i, k], byHead) {
    const twins = `Nodes ${i} and ${k}`;
    const apart = range(byHead.length).filter((h) => !Attention.isEqualBy(byHead[h]));
    const primary = byHead.map((causes) => causes[0]);
    if (apart.length) {
      const cause = primary[apart[0]];
      const reason = REASONS[cause === "separated" && state.layer === "gatv2" ? "bent" : cause];
      if (byHead.length === 1) return `${twins} come out <b>different</b>: ${reason}.`;
      const list = apart.map((h) => h + 1).join(", ");
      return `${twins} come out <b>different</b>: in head ${list} of ${byHead.length} ${reason}. One such head is enough.`;
    }
    const isAlsoUniform = byHead[0].includes("uniform") && primary[0] !== "uniform";
    const also = isAlsoUniform ? " Attention is uniform as well, but a small change ends that and not the equality." : "";
    if (byHead.length === 1) return `${twins} come out <b>equal</b>: ${REASONS[primary[0]]}.${also}`;
    if (new Set(primary).size === 1) return `${twins} come out <b>equal</b> in all ${byHead.length} heads: ${REASONS[primary[0]]}.`;
    return `${twins} come out <b>equal</b>: every head makes them equal (${primary.map((name) => name.replace("_", " ")).join(", ")}).`;
  }

  function measure(seen) {
    const pair = graph.pairs[state.pair];
    const shares = pair.flatMap((node) => seen.normalised[node]).filter((x) => x !== null);
    return {
      entropy: shares.length ? Attention.sum(shares) / shares.length : NaN,
      gap: seen.gaps[state.pair], loss: seen.loss,
      isEqual: seen.causes[state.pair].every(Attention.isEqualBy),
    };
  }

  const gapText = (now) => (now.gap < 1e-13 ? "0" : now.gap < 1e-3 ? now.gap.toExponential(1).replace("-", "\u2212") : Draw.text(now.gap, 4));

  function draw() {
    const setting = settingOf();
    const seen = Attention.evaluate(graph, setting);
    const now = measure(seen);
    const [pair, h] = [graph.pairs[state.pair], state.head];
    const signs = (i) => (seen.rows[i].length ? Attention.signsOf(graph, setting, seen, i, h) : []);
    const words = sentenceOf(pair, seen.causes[state.pair]);
    if (words !== lastWords) byId("sentence").innerHTML = words; // it is read aloud when it changes
    lastWords = words;
    byId("verdict").className = now.isEqual ? "" : "apart";
    const facts = [["twins", `<span>${now.isEqual ? "equal" : "different"}</span>`], ["twin gap", gapText(now)], ["entropy / max.", Draw.percent(now.entropy)], ["loss", Draw.text(now.loss, 4)]];
    byId("facts").innerHTML = facts.map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`).join("");
    byId("graph").innerHTML = Draw.graphPicture(graph, seen, pair, h, now.isEqual);
    const rows = pair.map(signs);
    byId("plane").innerHTML = range(rows[0].length).map((part) => {
      const isDead = state.layer === "gatv2" && state.params.a[h][part] === 0;
      const title = rows[0].length > 1 ? `<p class="muted">Channel ${part + 1}</p>` : "";
      return title + Draw.planePicture(graph, seen, pair, h, part, rows.map((row) => row[part]), isDead || state.slope === 1);
    }).join("");
    const order = [...pair, ...range(graph.features.length).filter((i) => !pair.includes(i))];
    byId("rows").innerHTML = order.map((i) => Draw.rowCard(graph, seen, pair, h, i, signs(i))).join("");
    shownSliders.forEach((refresh) => refresh());
    drawCurves();
    return seen;
  }

  function drawCurves() {
    const [first, now] = [history[0], history[history.length - 1]];
    byId("count").textContent = history.length - 1;
    byId("story").textContent = history.length === 1 ? "Press Play: watch the entropy leave its maximum, and the gap." :
      `After ${history.length - 1} step${history.length > 2 ? "s" : ""} the entropy of the twins is ${Draw.percent(now.entropy)} of its maximum (${Draw.percent(first.entropy)} at step 0), and ` +
      (now.isEqual ? `the twin gap is ${history.every((record) => record.isEqual) ? "still 0: no gradient pushes the twins apart" : "0 again"}.` : `the twins are ${gapText(now)} apart.`);
    const values = (name) => history.map((record) => record[name]);
    byId("curves").innerHTML =
      Draw.curve({ title: "Entropy / maximum", values: values("entropy"), colour: "var(--second)", low: 0.8, high: 1, floor: null, decimals: 2 }) +
      Draw.curve({ title: "Twin gap", values: values("gap"), colour: "var(--other)", low: 0, high: 0.1, floor: null, decimals: 2 }) +
      Draw.curve({ title: "Loss", values: values("loss"), colour: "var(--equal)", low: 0, high: 0.7, floor: graph.floor, decimals: 2 });
  }

  /* Somebody moved something: training begins anew from here. */
  function restart() {
    pause();
    start = copyOf(state.params);
    history = [];
    remember(Attention.evaluate(graph, settingOf()));
    draw();
  }
  const remember = (seen) => history.push(measure(seen));

  function rebuild() {
    choose("layer", state.layer);
    choose("heads", numHeads());
    choose("scaling", state.scaling);
    choose("head", state.head);
    byId("head").hidden = numHeads() === 1;
    for (const input of document.getElementsByName("head")) input.parentElement.hidden = Number(input.value) >= numHeads();
    buildSliders();
    restart();
  }

  // --- gradient descent --------------------------------------------------------------------------

  const rate = () => 10 ** Number(byId("rate").value);

  function train(steps) {
    for (let k = 0; k < steps; k += 1) {
      const setting = settingOf();
      const next = Attention.step(state.params, Attention.gradientOf(graph, setting), rate());
      const seen = Attention.evaluate(graph, { ...setting, params: next });
      if (!Number.isFinite(seen.loss)) { pause(); break; }
      state.params = next;
      remember(seen);
    }
    draw();
  }
  function pause() {
    isPlaying = false;
    byId("play").textContent = "Play";
  }
  function frame() {
    if (!isPlaying) return;
    train(Number(byId("speed").value));
    if (history.length > 20000) pause();
    requestAnimationFrame(frame);
  }

  function showRates() {
    byId("rate-text").textContent = Draw.text(rate(), 3);
    byId("speed-text").textContent = byId("speed").value;
  }

  function drawAtRandom(times) {
    const isEqual = () => {
      state.params = Attention.draw(Math.random, numFeatures, numHeads(), CHANNELS);
      return measure(Attention.evaluate(graph, settingOf())).isEqual;
    };
    const count = range(times).filter(isEqual).length;
    byId("luck").textContent = times === 1
      ? `This start makes the twins ${count ? "equal" : "different"}.`
      : `${count} of ${times.toLocaleString("en")} random starts make the twins equal. The last one is shown.`;
    restart();
    pressPreset(null);
  }

  // --- the beginning -----------------------------------------------------------------------------

  for (const preset of PRESETS) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = preset.name;
    button.addEventListener("click", () => usePreset(preset));
    byId("presets").append(button);
  }
  graph.pairs.forEach(([i, k], p) => byId("pair").add(new Option(`${i} and ${k}`, p)));
  byId("pair-choice").hidden = graph.pairs.length < 2;
  byId("pair").addEventListener("change", () => { state.pair = Number(byId("pair").value); restart(); });
  byId("task").textContent = `labels (${graph.labels.map((label) => (label < 0 ? "none" : label)).join(", ")})`;
  onChoice("layer", (value) => { state.layer = value; rebuild(); });
  onChoice("scaling", (value) => { state.scaling = value; restart(); });
  onChoice("heads", (value) => { setHeads(Number(value)); rebuild(); });
  onChoice("head", (value) => { state.head = Number(value); buildSliders(); draw(); });
  byId("play").addEventListener("click", () => {
    if (isPlaying) { pause(); return; }
    isPlaying = true;
    byId("play").textContent = "Pause";
    requestAnimationFrame(frame);
  });
  byId("step").addEventListener("click", () => { pause(); train(1); });
  byId("reset").addEventListener("click", () => { state.params = copyOf(start); restart(); });
  byId("draw").addEventListener("click", () => drawAtRandom(1));
  byId("draw-many").addEventListener("click", () => drawAtRandom(1000));
  for (const id of ["rate", "speed"]) byId(id).addEventListener("input", showRates);
  showRates();
  usePreset(PRESETS[0]);
})();
