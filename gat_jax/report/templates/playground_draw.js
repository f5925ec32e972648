/* Pictures of a setting, as markup: made of numbers alone, so there is nothing to escape. */
const Draw = (() => {
  "use strict";
  const { range } = Attention;

  /* A number with so many decimals, and a true minus. */
  function text(x, decimals = 2) {
    if (!Number.isFinite(x)) return "\u2013";
    const isLarge = Math.abs(x) >= 1e4;
    const written = isLarge ? x.toExponential(1) : x.toFixed(decimals);
    return (Number(written) === 0 ? written.replace("-", "") : written).replace("-", "\u2212");
  }

  /* A number that may be very small; what rounding alone leaves is 0. */
  function small(x) {
    if (x < 1e-13) return "0";
    return x < 1e-3 ? x.toExponential(1).replace("-", "\u2212") : text(x, 4);
  }

  const percent = (x) => `${text(100 * x, x > 0.99 && x < 0.99995 ? 2 : 1)}%`;
  const at = (x) => x.toFixed(1);
  const svg = (width, height, label, body) =>
    `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${label}">${body}</svg>`;
  const write = (x, y, words, options) =>
    `<text x="${at(x)}" y="${at(y)}" ${options}>${words}</text>`;
  const line = (x1, y1, x2, y2, options) =>
    `<line x1="${at(x1)}" y1="${at(y1)}" x2="${at(x2)}" y2="${at(y2)}" ${options}/>`;
  const polyline = (points, options) =>
    `<polyline fill="none" ${options} points="${points.map((p) => p.map(at).join(",")).join(" ")}"/>`;
  const colourOf = (node, pair) =>
    ["var(--first)", "var(--second)"][pair.indexOf(node)] || "var(--muted)";

  // --- the graph -------------------------------------------------------------------------------

  const [GRAPH_WIDTH, GRAPH_HEIGHT, RADIUS] = [320, 296, 96];
  const sizeOf = (numNodes) => (numNodes > 6 ? 16 : 21); // the radius of a node

  /* Nodes on a circle, the twins above each other on its right. */
  function places(numNodes, [first, second]) {
    const others = range(numNodes).filter((node) => node !== first && node !== second);
    const found = [];
    [first, ...others, second].forEach((node, k) => {
      const angle = (-Math.PI * (1 + 2 * k)) / numNodes;
      const [right, down] = [RADIUS * Math.cos(angle), RADIUS * Math.sin(angle)];
      found[node] = [GRAPH_WIDTH / 2 + right, GRAPH_HEIGHT / 2 + down];
    });
    return found;
  }

  /* A path that ends with an arrowhead at a node; `towards` is the direction in which it arrives. */
  function arrow(begin, control, [x, y], node, weight, colour) {
    const width = 0.5 + 9 * weight * weight + 2 * weight;
    const size = 6 + 0.7 * width;
    const last = control[control.length - 1];
    const length = Math.hypot(x - last[0], y - last[1]);
    const [u, v] = [(x - last[0]) / length, (y - last[1]) / length];
    const tip = [x - u * (node + 2), y - v * (node + 2)];
    const base = [tip[0] - u * size, tip[1] - v * size];
    const [across, down] = [-0.62 * size * v, 0.62 * size * u];
    const [one, other] = [[base[0] + across, base[1] + down], [base[0] - across, base[1] - down]];
    const pair = (point) => point.map(at).join(" ");
    const kind = control.length === 1 ? "Q" : "C";
    const path = `M ${pair(begin)} ${kind} ${[...control, base].map(pair).join(", ")}`;
    return `<g opacity="${at(0.45 + 0.5 * Math.min(1, 1.5 * weight))}">` +
      `<path fill="none" stroke="${colour}" stroke-width="${at(width)}" d="${path}"/>` +
      `<polygon fill="${colour}" points="${[tip, one, other].map(pair).join(" ")}"/></g>`;
  }

  function edgePath([x1, y1], [x2, y2], ...looks) {
    const [dx, dy] = [x2 - x1, y2 - y1];
    const control = [(x1 + x2) / 2 - 0.13 * dy, (y1 + y2) / 2 + 0.13 * dx];
    return arrow([x1, y1], [control], [x2, y2], ...looks);
  }

  function loopPath([x, y], node, ...looks) {
    const angle = Math.atan2(y - GRAPH_HEIGHT / 2, x - GRAPH_WIDTH / 2);
    const far = 3.1 * node;
    const corners = [angle - 0.62, angle + 0.62]
      .map((turned) => [x + far * Math.cos(turned), y + far * Math.sin(turned)]);
    return arrow([x, y], corners, [x, y], node, ...looks);
  }

  function graphPicture(graph, shown, pair, h, isEqual) {
    const where = places(graph.features.length, pair);
    const size = sizeOf(where.length);
    const order = range(graph.senders.length).sort((a, b) => // those into the twins on top
      pair.includes(graph.receivers[a]) - pair.includes(graph.receivers[b]));
    const edges = order.map((e) => {
      const [j, i] = [graph.senders[e], graph.receivers[e]];
      const looks = [size, shown.attention[e][h], colourOf(i, pair)];
      return j === i ? loopPath(where[i], ...looks) : edgePath(where[j], where[i], ...looks);
    });
    const nodes = where.map(([x, y], i) => {
      const [fill, ink] = pair.includes(i) ? [colourOf(i, pair), "card"] : ["var(--card)", "text"];
      return `<circle cx="${at(x)}" cy="${at(y)}" r="${size}" fill="${fill}" ` +
        `stroke="${colourOf(i, pair)}" stroke-width="2"/>` +
        write(x, y + 5, i, `text-anchor="middle" class="name" style="fill: var(--${ink})"`);
    });
    const x = Math.max(where[pair[0]][0], where[pair[1]][0]) + 46;
    const tone = `style="font-size: 40px; fill: var(--${isEqual ? "equal" : "other"})"`;
    const sign = isEqual ? "=" : "\u2260";
    const between = write(x, GRAPH_HEIGHT / 2 + 13, sign, `text-anchor="middle" ${tone}`);
    const label = `A graph of ${where.length} nodes; the twins ${pair.join(" and ")} are ` +
      `${isEqual ? "equal" : "different"}`;
    return svg(GRAPH_WIDTH, GRAPH_HEIGHT, label, edges.join("") + nodes.join("") + between);
  }

  // --- the plane of c and n --------------------------------------------------------------------

  const PLANE = { width: 320, left: 52, right: 316, top: 6 };

  /* Numbers that lie closer than a distance are written as one. */
  function joined(entries, distance) {
    const groups = [];
    for (const entry of [...entries].sort((a, b) => a.place - b.place)) {
      const last = groups[groups.length - 1];
      if (last && entry.place - last.place < distance) last.names.push(entry.name);
      else groups.push({ place: entry.place, names: [entry.name] });
    }
    groups.forEach((group) => group.names.sort((a, b) => a - b));
    return groups;
  }

  const spanOf = (values) => Math.max(0, ...values) - Math.min(0, ...values);

  /* A scale from numbers to pixels that holds 0 and the values, and at least such a span. */
  function scaleOf(values, span, low, high) {
    const middle = (Math.max(0, ...values) + Math.min(0, ...values)) / 2;
    const half = 0.64 * Math.max(spanOf(values), span) || 1;
    return (x) => low + ((x - middle + half) / (2 * half)) * (high - low);
  }

  /* The regions of equal and of unequal twins, from the left to the right, and their titles. */
  function regions(frame, from, to, isOnePiece) {
    const { left, right, top, bottom } = frame;
    const parts = isOnePiece
      ? [[left, right, "equal wherever they are", "equal"]]
      : [
        [left, from, "all \u2264 0", "equal"],
        [from, to, "mixed", "other"],
        [to, right, "all \u2265 0", "equal"],
      ];
    return parts.filter(([begin, end]) => end > begin).map(([begin, end, words, tone]) => {
      const options = `text-anchor="middle" style="fill: var(--${tone})"`;
      const title = end - begin > 58 ? write((begin + end) / 2, top + 16, words, options) : "";
      return `<rect x="${at(begin)}" y="${top}" width="${at(end - begin)}" ` +
        `height="${bottom - top}" fill="var(--${tone})" style="fill-opacity: var(--wash)"/>${title}`;
    }).join("");
  }

  /* The axes, and the line c + n = 0 as far as it lies in the frame. */
  function bendLine({ left, right, top, bottom }, x, y) {
    const toNumber = (pixel) => (pixel - x(0)) / (x(1) - x(0));
    const points = range(201).map((k) => left + (k / 200) * (right - left))
      .map((pixel) => [pixel, y(-toNumber(pixel))])
      .filter(([, height]) => height >= top && height <= bottom);
    return line(x(0), top, x(0), bottom, 'stroke="var(--line)"') +
      line(left, y(0), right, y(0), 'stroke="var(--line)"') +
      polyline(points, 'stroke="var(--text)" stroke-width="1.5"');
  }

  /* One part of the logits of two twins: rows are what `Attention.signsOf` gives of each. */
  function planePicture(graph, shown, pair, h, part, rows, isOnePiece) {
    const bottom = shown.c[pair[0]][h].length > 1 ? 170 : 250;
    const frame = { ...PLANE, bottom };
    const { width, left, right, top } = frame;
    const senders = [...new Set(shown.rows[pair[0]].map((e) => graph.senders[e]))];
    const sent = senders.map((j) => shown.n[j][h][part]);
    const asked = pair.map((node) => shown.c[node][h][part]);
    const [lowest, highest] = [rows[0].lowest, rows[0].highest];
    const across = [...asked, -lowest, -highest];
    const x = scaleOf(across, spanOf(sent) / 2, left, right);
    const y = scaleOf(sent, spanOf(across) / 2, bottom, top + 24);
    const isClose = Math.abs(x(asked[0]) - x(asked[1])) < 34;
    const columns = pair.map((node, k) => {
      const [colour, place] = [colourOf(node, pair), x(asked[k])];
      const dots = sent.map((n) => `<circle cx="${at(place)}" cy="${at(y(n))}" r="5.5" ` +
        `stroke="${colour}" stroke-width="2" fill="${asked[k] + n >= 0 ? colour : "var(--card)"}"/>`);
      const foot = `text-anchor="middle" class="name" style="fill: ${colour}"`;
      return line(place, top + 26, place, bottom, `stroke="${colour}" stroke-dasharray="2 4"`) +
        dots.join("") +
        write(place, bottom + 17 + (isClose && k ? 15 : 0), `c<tspan dy="3">${node}</tspan>`, foot);
    });
    const entries = senders.map((j, k) => ({ place: y(sent[k]), name: j }));
    const ticks = joined(entries, 15).map(({ place, names }) => {
      const words = names.length > 3 ? `${names.length} n` : `n<tspan dy="3">${names.join()}</tspan>`;
      return write(left - 8, place + 4, words, 'text-anchor="end"');
    });
    const signs = "\u25cf c + n \u2265 0 \u2003 \u25cb c + n &lt; 0";
    const key = write((left + right) / 2, bottom + 53, signs, 'text-anchor="middle" class="quiet"');
    const parts = asked.map((c) => text(c)).join(" and ");
    const label = `The receiver's parts of the twins are ${parts}; ` +
      (isOnePiece ? "twins are equal wherever they are"
        : `signs are mixed between ${text(-highest)} and ${text(-lowest)}`);
    return svg(width, bottom + 58, label, regions(frame, x(-highest), x(-lowest), isOnePiece) +
      bendLine(frame, x, y) + columns.join("") + ticks.join("") + key);
  }

  // --- rows and curves -------------------------------------------------------------------------

  /* The numbers beside the sentence. */
  function facts(now) {
    const entries = [
      ["twins", `<span>${now.isEqual ? "equal" : "different"}</span>`],
      ["twin gap", small(now.gap)],
      ["entropy / max.", percent(now.entropy)],
      ["loss", text(now.loss, 4)],
    ];
    return entries.map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`).join("");
  }

  const TITLES = {
    positive: "+ all \u2265 0", negative: "\u2212 all \u2264 0", mixed: "\u00b1 mixed",
    uniform: "= uniform", trivial: "one sender",
  };

  function regimeOfPart(part) {
    if (part.isPositive) return "positive";
    if (part.isNegative) return "negative";
    return part.isUniform ? "uniform" : "mixed";
  }

  /* The regime of one row and what its badge says; channels that differ are named one by one. */
  function regimeOf(signs, numSenders) {
    if (numSenders < 2) return ["trivial", TITLES.trivial];
    const regimes = signs.map(regimeOfPart);
    if (new Set(regimes).size === 1) return [regimes[0], TITLES[regimes[0]]];
    const words = `channels ${regimes.map((regime) => TITLES[regime][0]).join(", ")}`;
    return [regimes.includes("mixed") ? "mixed" : "channels", words];
  }

  function rowCard(graph, shown, pair, h, i, signs) {
    const edges = shown.rows[i];
    const [regime, badge] = regimeOf(signs, new Set(edges.map((e) => graph.senders[e])).size);
    const uniform = `<b style="left: calc(${(100 / edges.length).toFixed(2)}% - 1px)"></b>`;
    const head = '<span class="head">from</span><span class="head right">logit</span>' +
      '<span class="head">attention</span><span></span>';
    const bars = edges.map((e) => {
      const weight = shown.attention[e][h];
      return `<span>${graph.senders[e]}</span>` +
        `<span class="right">${text(shown.logits[e][h])}</span><span class="bar">` +
        `<i style="width: ${(100 * weight).toFixed(2)}%"></i>${uniform}</span>` +
        `<span class="right">${text(weight, 3)}</span>`;
    });
    const share = shown.normalised[i][h];
    const entropy = share === null ? "" : `Entropy <b>${text(shown.entropy[i][h], 3)}</b> of ` +
      `${text(Math.log(edges.length), 3)} (${percent(share)})<br>`;
    const outputs = shown.headOutputs[i][h].map((x) => text(x, 3)).join(", ");
    const kind = ["first", "second"][pair.indexOf(i)] || "";
    return `<div class="card row ${kind}"><h3>Node ${i}${kind ? ", a twin" : ""} ` +
      `<span class="regime ${regime}">${badge}</span></h3><div class="bars">${head}` +
      `${bars.join("")}</div><p class="entropy">${entropy}Output <b>(${outputs})</b></p></div>`;
  }

  /* A curve over steps; `low` and `high` are widened to what the values need. */
  function curve({ title, values, colour, low, high, floor = null }) {
    const [width, height, left, right, top, bottom] = [320, 150, 44, 308, 10, 122];
    const finite = values.filter(Number.isFinite);
    const least = finite.reduce((a, b) => Math.min(a, b), low);
    const most = finite.reduce((a, b) => Math.max(a, b), high);
    const last = values.length - 1;
    const x = (step) => left + (step / Math.max(last, 1)) * (right - left);
    const y = (value) => bottom - ((value - least) / (most - least)) * (bottom - top);
    const stride = Math.max(1, Math.floor(values.length / 300));
    const points = range(values.length).filter((k) => k % stride === 0 || k === last)
      .filter((k) => Number.isFinite(values[k])).map((k) => [x(k), y(values[k])]);
    const end = points[points.length - 1];
    const ends = 'text-anchor="end" class="quiet"';
    const dashes = 'stroke="var(--muted)" stroke-width="1.5" stroke-dasharray="6 4"';
    const body = [
      line(left, bottom, right, bottom, 'stroke="var(--line)"'),
      line(left, top, right, top, 'stroke="var(--line)"'),
      floor === null ? "" : line(left, y(floor), right, y(floor), dashes),
      polyline(points, `stroke="${colour}" stroke-width="2.5" stroke-linejoin="round"`),
      end ? `<circle cx="${at(end[0])}" cy="${at(end[1])}" r="4.5" fill="${colour}"/>` : "",
      write(left - 6, top + 5, text(most), ends),
      write(left - 6, bottom + 4, text(least), ends),
      write(left, height - 8, "step 0", 'class="quiet"'),
      last > 0 ? write(right, height - 8, last, ends) : "",
    ];
    const words = `${title}: ${text(values[last], 3)}`;
    const label = `${title} over ${last} steps, now ${text(values[last], 3)}`;
    return `<div><h3 style="color: ${colour}">${words}</h3>` +
      `${svg(width, height, label, body.join(""))}</div>`;
  }

  return { text, small, percent, facts, graphPicture, planePicture, rowCard, curve };
})();
