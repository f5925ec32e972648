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

  const percent = (x) => `${text(100 * x, x > 0.99 && x < 0.99995 ? 2 : 1)}%`;
  const at = (x) => x.toFixed(1);
  const svg = (width, height, label, body) =>
    `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${label}">${body}</svg>`;
  const write = (x, y, words, options = "") => `<text x="${at(x)}" y="${at(y)}" ${options}>${words}</text>`;
  const line = (x1, y1, x2, y2, options) =>
    `<line x1="${at(x1)}" y1="${at(y1)}" x2="${at(x2)}" y2="${at(y2)}" ${options}/>`;
  const colourOf = (node, pair) => ["var(--first)", "var(--second)"][pair.indexOf(node)] || "var(--muted)";

  // --- the graph -------------------------------------------------------------------------------

  const [GRAPH_WIDTH, GRAPH_HEIGHT, RADIUS, NODE] = [320, 296, 96, 21];

  /* Nodes on a circle, the twins above each other on its right. */
  function places(numNodes, [first, second]) {
    const others = range(numNodes).filter((node) => node !== first && node !== second);
    const found = [];
    [first, ...others, second].forEach((node, k) => {
      const angle = (-Math.PI * (1 + 2 * k)) / numNodes;
      found[node] = [GRAPH_WIDTH / 2 + RADIUS * Math.cos(angle), GRAPH_HEIGHT / 2 + RADIUS * Math.sin(angle)];
    });
    return found;
  }

  /* A path that ends with an arrowhead at a node; `towards` is the direction in which it arrives. */
  function arrow(begin, control, [x, y], weight, colour) {
    const width = 0.5 + 9 * weight * weight + 2 * weight;
    const size = 6 + 0.7 * width;
    const last = control[control.length - 1];
    const length = Math.hypot(x - last[0], y - last[1]);
    const [u, v] = [(x - last[0]) / length, (y - last[1]) / length];
    const tip = [x - u * (NODE + 2), y - v * (NODE + 2)];
    const base = [tip[0] - u * size, tip[1] - v * size];
    const side = size * 0.62;
    const corners = [tip, [base[0] - v * side, base[1] + u * side], [base[0] + v * side, base[1] - u * side]];
    const path = [...control, base].map((point) => point.map(at).join(" ")).join(", ");
    const kind = control.length === 1 ? "Q" : "C";
    return `<g opacity="${at(0.45 + 0.5 * Math.min(1, 1.5 * weight))}"><path fill="none" stroke="${colour}" ` +
      `stroke-width="${at(width)}" d="M ${begin.map(at).join(" ")} ${kind} ${path}"/>` +
      `<polygon fill="${colour}" points="${corners.map((p) => p.map(at).join(",")).join(" ")}"/></g>`;
  }

  function edgePath([x1, y1], [x2, y2], weight, colour) {
    const [dx, dy] = [x2 - x1, y2 - y1];
    const control = [(x1 + x2) / 2 - 0.13 * dy, (y1 + y2) / 2 + 0.13 * dx];
    return arrow([x1, y1], [control], [x2, y2], weight, colour);
  }

  function loopPath([x, y], weight, colour) {
    const angle = Math.atan2(y - GRAPH_HEIGHT / 2, x - GRAPH_WIDTH / 2);
    const point = (turn, distance) => [x + distance * Math.cos(angle + turn), y + distance * Math.sin(angle + turn)];
    return arrow([x, y], [point(-0.62, 3.1 * NODE), point(0.62, 3.1 * NODE)], [x, y], weight, colour);
  }

  function graphPicture(graph, shown, pair, h, isEqual) {
    const where = places(graph.features.length, pair);
    const order = range(graph.senders.length).sort((a, b) =>
      pair.includes(graph.receivers[a]) - pair.includes(graph.receivers[b]));
    const edges = order.map((e) => {
      const [j, i] = [graph.senders[e], graph.receivers[e]];
      const [weight, colour] = [shown.attention[e][h], colourOf(i, pair)];
      return j === i ? loopPath(where[i], weight, colour) : edgePath(where[j], where[i], weight, colour);
    });
    const nodes = where.map(([x, y], i) => {
      const isTwin = pair.includes(i);
      return `<circle cx="${at(x)}" cy="${at(y)}" r="${NODE}" fill="${isTwin ? colourOf(i, pair) : "var(--card)"}" ` +
        `stroke="${colourOf(i, pair)}" stroke-width="2"/>` +
        write(x, y + 5, i, `text-anchor="middle" class="name"${isTwin ? ' style="fill: var(--card)"' : ""}`);
    });
    const [x, y] = [Math.max(where[pair[0]][0], where[pair[1]][0]) + 46, GRAPH_HEIGHT / 2];
    const tone = `style="font-size: 40px; fill: var(--${isEqual ? "equal" : "other"})"`;
    const sign = write(x, y + 13, isEqual ? "=" : "\u2260", `text-anchor="middle" ${tone}`);
    const label = `A graph of ${where.length} nodes; the twins ${pair.join(" and ")} are ${isEqual ? "equal" : "different"}`;
    return svg(GRAPH_WIDTH, GRAPH_HEIGHT, label, edges.join("") + nodes.join("") + sign);
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

  /* One part of the logits of two twins: rows are what `Attention.signsOf` gives of
     each. */
  function planePicture(graph, shown, pair, h, part, rows, isOnePiece) {
    const { width, left, right, top } = PLANE;
    const bottom = shown.c[pair[0]][h].length > 1 ? 170 : 250;
    const height = bottom + 58;
    const senders = [...new Set(shown.rows[pair[0]].map((e) => graph.senders[e]))];
    const sent = senders.map((j) => shown.n[j][h][part]);
    const asked = pair.map((node) => shown.c[node][h][part]);
    const [lowest, highest] = [rows[0].lowest, rows[0].highest];
    const across = [...asked, -lowest, -highest];
    const x = scaleOf(across, spanOf(sent) / 2, left, right);
    const y = scaleOf(sent, spanOf(across) / 2, bottom, top + 24);
    const clip = (value) => Math.min(right, Math.max(left, value));
    const [from, to] = isOnePiece ? [right, right] : [clip(x(-highest)), clip(x(-lowest))];
    const area = (begin, end, tone) => `<rect x="${at(begin)}" y="${top}" width="${at(Math.max(0, end - begin))}" ` +
      `height="${bottom - top}" fill="var(--${tone})" style="fill-opacity: var(--wash)"/>`;
    const areas = area(left, from, "equal") + area(from, to, "other") + area(to, right, "equal");
    const names = isOnePiece
      ? [[left, right, "equal wherever they are", "equal"]]
      : [[left, from, "all \u2264 0", "equal"], [from, to, "mixed", "other"], [to, right, "all \u2265 0", "equal"]];
    const titles = names.filter(([begin, end]) => end - begin > 58).map(([begin, end, words, tone]) =>
      write((begin + end) / 2, top + 16, words, `text-anchor="middle" style="fill: var(--${tone})"`));
    // The line c + n = 0 within the frame, in small steps: it is straight.
    const inverse = (px) => { const [a, b] = [x(0), x(1)]; return (px - a) / (b - a); };
    const points = range(121).map((k) => left + (k / 120) * (right - left))
      .map((px) => [px, y(-inverse(px))]).filter(([, py]) => py >= top && py <= bottom);
    const bend = `<polyline fill="none" stroke="var(--text)" stroke-width="1.5" ` +
      `points="${points.map((p) => p.map(at).join(",")).join(" ")}"/>`;
    const axes = line(x(0), top, x(0), bottom, 'stroke="var(--line)"') + line(left, y(0), right, y(0), 'stroke="var(--line)"');
    const columns = pair.map((node, k) => {
      const colour = colourOf(node, pair);
      const dots = sent.map((n) => `<circle cx="${at(x(asked[k]))}" cy="${at(y(n))}" r="5.5" stroke="${colour}" ` +
        `stroke-width="2" fill="${asked[k] + n >= 0 ? colour : "var(--card)"}"/>`);
      return line(x(asked[k]), top + 26, x(asked[k]), bottom, `stroke="${colour}" stroke-dasharray="2 4"`) + dots.join("");
    });
    const isClose = Math.abs(x(asked[0]) - x(asked[1])) < 34;
    const feet = pair.map((node, k) => write(x(asked[k]), bottom + 17 + (isClose && k ? 15 : 0), `c<tspan dy="3">${node}</tspan>`,
      `text-anchor="middle" class="name" style="fill: ${colourOf(node, pair)}"`));
    const ticks = joined(senders.map((j, k) => ({ place: y(sent[k]), name: j })), 15).map(({ place, names: ids }) =>
      write(left - 8, place + 4, ids.length > 3 ? `n of ${ids.length}` : `n<tspan dy="3">${ids.join(",")}</tspan>`, 'text-anchor="end"'));
    const foot = write((left + right) / 2, height - 5, "\u25cf logit \u2265 0 \u2003 \u25cb logit &lt; 0", 'text-anchor="middle" class="quiet"');
    const label = `The receiver's parts of the twins are ${asked.map((c) => text(c)).join(" and ")}; ` +
      (isOnePiece ? "they are equal wherever they are" : `logits have mixed signs between ${text(-highest)} and ${text(-lowest)}`);
    return svg(width, height, label, areas + axes + bend + titles.join("") + columns.join("") + feet.join("") + ticks.join("") + foot);
  }

  // --- rows and curves -------------------------------------------------------------------------

  const TITLES = { positive: "+ all \u2265 0", negative: "\u2212 all \u2264 0", mixed: "\u00b1 mixed", uniform: "= uniform", trivial: "one sender" };

  const regimeOfPart = (part) =>
    part.isPositive ? "positive" : part.isNegative ? "negative" : part.isUniform ? "uniform" : "mixed";

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
    const bars = edges.map((e) => {
      const weight = shown.attention[e][h];
      return `<span>${graph.senders[e]}</span><span class="right">${text(shown.logits[e][h])}</span>` +
        `<span class="bar"><i style="width: ${(100 * weight).toFixed(2)}%"></i>${uniform}</span><span class="right">${text(weight, 3)}</span>`;
    });
    const share = shown.normalised[i][h];
    const entropy = share === null ? "" : ` Entropy <b>${text(shown.entropy[i][h], 3)}</b> of ${text(Math.log(edges.length), 3)} (${percent(share)})<br>`;
    const outputs = shown.headOutputs[i][h].map((x) => text(x, 3)).join(", ");
    const kind = ["first", "second"][pair.indexOf(i)] || "";
    return `<div class="card row ${kind}"><h3>Node ${i}${kind ? ", a twin" : ""} <span class="regime ${regime}">${badge}</span></h3>` +
      `<div class="bars"><span class="head">from</span><span class="head right">logit</span><span class="head">attention</span><span></span>${bars.join("")}</div>` +
      `<p class="entropy">${entropy}Output <b>(${outputs})</b></p></div>`;
  }

  /* A curve over steps. `low` and `high` are widened to what the values need. */
  function curve({ title, values, colour, low, high, floor, decimals }) {
    const [width, height, left, right, top, bottom] = [320, 150, 44, 308, 10, 122];
    const finite = values.filter(Number.isFinite);
    const [least, most] = [finite.reduce((a, b) => Math.min(a, b), low), finite.reduce((a, b) => Math.max(a, b), high)];
    const last = Math.max(values.length - 1, 1);
    const x = (step) => left + (step / last) * (right - left);
    const y = (value) => bottom - ((value - least) / (most - least)) * (bottom - top);
    const stride = Math.max(1, Math.floor(values.length / 300));
    const kept = range(values.length).filter((k) => k % stride === 0 || k === values.length - 1);
    const points = kept.filter((k) => Number.isFinite(values[k])).map((k) => [x(k), y(values[k])]);
    const end = points[points.length - 1];
    const body = line(left, bottom, right, bottom, 'stroke="var(--line)"') + line(left, top, right, top, 'stroke="var(--line)"') +
      (floor === null ? "" : line(left, y(floor), right, y(floor), 'stroke="var(--muted)" stroke-width="1.5" stroke-dasharray="6 4"')) +
      `<polyline fill="none" stroke="${colour}" stroke-width="2.5" stroke-linejoin="round" points="${points.map((p) => p.map(at).join(",")).join(" ")}"/>` +
      (end ? `<circle cx="${at(end[0])}" cy="${at(end[1])}" r="4.5" fill="${colour}"/>` : "") +
      write(left - 6, top + 5, text(most, decimals), 'text-anchor="end" class="quiet"') +
      write(left - 6, bottom + 4, text(least, decimals), 'text-anchor="end" class="quiet"') +
      write(left, height - 8, "step 0", 'class="quiet"') + write(right, height - 8, values.length > 1 ? `${last}` : "", 'text-anchor="end" class="quiet"');
    const now = values[values.length - 1];
    return `<div><h3 style="color: ${colour}">${title}: ${text(now, decimals + 1)}</h3>${svg(width, height, `${title} over steps, now ${text(now, decimals + 1)}`, body)}</div>`;
  }

  return { text, percent, graphPicture, planePicture, rowCard, curve };
})();
