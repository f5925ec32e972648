/* A layer of graph attention on a small graph, in double precision: nothing here draws.

   graph:   {features [N][F], senders [E], receivers [E], labels [N] (-1: none), pairs [[i, k], ...]}
   setting: {layer: "gat" | "gatv2", scaling: "raw" | "standardised", slope, params}
   params:  kernel [F][H][C], bias [H][C]; of GAT aRecv, aSend [H][C]; of GATv2 kernelRecv [F][H][C],
            biasRecv, a [H][C], beside which kernel and bias are those of the senders.
   Heads are averaged, and the outputs are the scores of the classes. Of a logit c_i + n_j,
   c [N][H][D] is the receiver's part and n [N][H][D] the sender's: D is 1 for GAT, C for GATv2. */
const Attention = (() => {
  "use strict";
  const range = (size) => Array.from({ length: size }, (_, k) => k);
  const sum = (values) => values.reduce((total, x) => total + x, 0);
  const dot = (a, b) => sum(a.map((x, k) => x * b[k]));
  const map = (tree, f) => (Array.isArray(tree) ? tree.map((part) => map(part, f)) : f(tree));
  const zeros = (tree) => map(tree, () => 0);
  const zip = (a, b, f) =>
    Array.isArray(a) ? a.map((part, k) => zip(part, b[k], f)) : f(a, b);
  const leakyRelu = (x, slope) => (x >= 0 ? x : slope * x);
  const bend = (x, slope) => (x >= 0 ? 1 : slope); // its derivative
  const ROUNDING = 4 * Number.EPSILON;
  const TRAINED = {
    gat: ["kernel", "bias", "aRecv", "aSend"],
    gatv2: ["kernel", "bias", "kernelRecv", "biasRecv", "a"],
  };

  /* Columns of mean 0 and standard deviation 1; constant columns become 0. */
  function standardise(features) {
    const columns = features[0].map((_, f) => {
      const column = features.map((row) => row[f]);
      const mean = sum(column) / column.length;
      const centred = column.map((x) => x - mean);
      const deviation = Math.sqrt(dot(centred, centred) / column.length);
      return centred.map((x) => (deviation > 0 ? x / deviation : 0));
    });
    return features.map((_, i) => columns.map((column) => column[i]));
  }

  const project = (features, kernel, bias) =>
    features.map((x) => zip(bias, bias.map((head, h) =>
      head.map((_, c) => sum(x.map((value, f) => value * kernel[f][h][c])))), (b, z) => b + z));

  /* Edges into each node. */
  const rowsOf = ({ features, receivers }) =>
    features.map((_, i) => range(receivers.length).filter((e) => receivers[e] === i));

  /* Numbers whose softmax is the row of a GAT. Inside one piece of LeakyReLU the receiver's part is
     gone from the arithmetic, as it is from the mathematics: equal rows are equal to the last bit. */
  function shiftedRow(c, senders, slope) {
    const top = Math.max(...senders);
    if (slope < 0) {
      const scores = senders.map((n) => leakyRelu(c + n, slope));
      return scores.map((score) => score - Math.max(...scores));
    }
    if (slope === 1) return senders.map((n) => n - top);
    if (c + top < 0) return senders.map((n) => slope * (n - top));
    return senders.map((n) => (c + n >= 0 ? n - top : slope * (c + n) - (c + top)));
  }

  function softmax(scores) {
    const top = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - top));
    const total = sum(weights);
    return weights.map((weight) => weight / total);
  }

  /* The layer, and all that is seen of it. `logits` [E][H] of GAT are those before LeakyReLU. */
  function forward(graph, setting) {
    const { layer, slope, params } = setting;
    const isV2 = layer === "gatv2";
    const inputs = setting.scaling === "standardised" ? standardise(graph.features) : graph.features;
    const values = project(inputs, params.kernel, params.bias);
    const asked = isV2 ? project(inputs, params.kernelRecv, params.biasRecv) : values;
    const c = isV2 ? asked : asked.map((z) => z.map((row, h) => [dot(row, params.aRecv[h])]));
    const n = isV2 ? values : values.map((z) => z.map((row, h) => [dot(row, params.aSend[h])]));
    const heads = params.bias.length;
    const logits = graph.senders.map((j, e) => range(heads).map((h) => {
      const parts = c[graph.receivers[e]][h].map((part, k) => part + n[j][h][k]);
      return isV2 ? sum(parts.map((part, k) => params.a[h][k] * leakyRelu(part, slope))) : parts[0];
    }));
    const attention = zeros(logits);
    const headOutputs = zeros(values);
    const rows = rowsOf(graph);
    rows.forEach((edges, i) => {
      if (edges.length === 0) return;
      range(heads).forEach((h) => {
        const scores = isV2
          ? edges.map((e) => logits[e][h])
          : shiftedRow(c[i][h][0], edges.map((e) => n[graph.senders[e]][h][0]), slope);
        softmax(scores).forEach((weight, k) => {
          attention[edges[k]][h] = weight;
          values[graph.senders[edges[k]]][h].forEach((z, channel) => {
            headOutputs[i][h][channel] += weight * z;
          });
        });
      });
    });
    const outputs = headOutputs.map((byHead) =>
      byHead[0].map((_, channel) => sum(byHead.map((out) => out[channel])) / heads));
    return { inputs, values, c, n, logits, attention, headOutputs, outputs, rows };
  }

  /* Entropy [N][H] in nats, and divided by that of uniform attention: null below two edges. */
  function entropies(graph, seen) {
    const heads = seen.c[0].length;
    const entropy = seen.rows.map((edges) => range(heads).map((h) =>
      sum(edges.map((e) => seen.attention[e][h]).map((w) => (w > 0 ? -w * Math.log(w) : 0)))));
    const normalised = entropy.map((row, i) => row.map((value) =>
      seen.rows[i].length < 2 ? null : value / Math.log(seen.rows[i].length)));
    return { entropy, normalised };
  }

  /* What is known of a node's row, by part: its query, and the signs of query + sender's part. */
  function signsOf(graph, setting, seen, i, h) {
    return seen.c[i][h].map((query, part) => {
      const senders = seen.rows[i].map((e) => seen.n[graph.senders[e]][h][part]);
      const lowest = Math.min(...senders);
      const highest = Math.max(...senders);
      const size = Math.max(highest, -lowest, 0);
      const isDead = setting.layer === "gatv2" && setting.params.a[h][part] === 0;
      return {
        query, lowest, highest,
        isPositive: query + lowest >= 0,
        isNegative: query + highest <= 0,
        isUniform: highest - lowest <= ROUNDING * size || isDead,
      };
    });
  }

  /* The causes that hold of a pair in one head, the first of which is the primary one. */
  function causesOf(graph, setting, seen, [i, k], h) {
    const [first, second] = [i, k].map((node) => signsOf(graph, setting, seen, node, h));
    const parts = range(first.length);
    const holds = {
      equal_query: (p) => first[p].query === second[p].query,
      positive: (p) => first[p].isPositive && second[p].isPositive,
      negative: (p) => first[p].isNegative && second[p].isNegative,
      uniform: (p) => first[p].isUniform && second[p].isUniform,
    };
    const found = [];
    const isTrivial = new Set(seen.rows[i].map((e) => graph.senders[e])).size < 2;
    if (isTrivial) found.push("trivial");
    if (setting.slope === 1) found.push("linear");
    for (const name of Object.keys(holds)) if (parts.every(holds[name])) found.push(name);
    const isCovered = parts.every((p) => Object.values(holds).some((held) => held(p)));
    if (found.length === 0 && isCovered) found.push("channelwise");
    if (found.length === 0) {
      const [a, b] = [seen.headOutputs[i][h], seen.headOutputs[k][h]];
      const size = Math.max(...a.concat(b).map(Math.abs));
      found.push(gapOf(a, b) <= ROUNDING * size ? "rounding" : "separated");
    }
    return found;
  }

  const gapOf = (a, b) => Math.max(...a.map((x, k) => Math.abs(x - b[k])));
  const isEqualBy = (causes) => !["rounding", "separated"].includes(causes[0]);

  /* Mean cross-entropy of the nodes that have a label, in nats, and its gradient by the outputs. */
  function lossOf(graph, outputs) {
    const labelled = range(outputs.length).filter((i) => graph.labels[i] >= 0);
    const gradient = zeros(outputs);
    let loss = 0;
    for (const i of labelled) {
      const top = Math.max(...outputs[i]);
      const logSum = top + Math.log(sum(outputs[i].map((x) => Math.exp(x - top))));
      loss += (logSum - outputs[i][graph.labels[i]]) / labelled.length;
      gradient[i] = outputs[i].map((x, k) =>
        (Math.exp(x - logSum) - (k === graph.labels[i] ? 1 : 0)) / labelled.length);
    }
    return { loss, gradient };
  }

  /* The gradient of the loss, by hand. With S the scores of a row and A its weights,
       dS_j = A_j (dout . z_j - sum_l A_l dout . z_l),
     and as the dS of a row add up to 0, what its receiver gets is sum_j dS_j (f'_j - f'_first):
     exactly 0 where the row lies in one piece of LeakyReLU. */
  function gradientOf(graph, setting, seen = forward(graph, setting)) {
    const { layer, slope, params } = setting;
    const isV2 = layer === "gatv2";
    const byOutput = lossOf(graph, seen.outputs).gradient;
    const [values, asked, sent] = [zeros(seen.values), zeros(seen.c), zeros(seen.n)];
    const found = Object.fromEntries(TRAINED[layer].map((name) => [name, zeros(params[name])]));
    seen.rows.forEach((edges, i) => range(params.bias.length).forEach((h) => {
      const outer = byOutput[i].map((x) => x / params.bias.length);
      const byWeight = edges.map((e) => dot(outer, seen.values[graph.senders[e]][h]));
      const mean = sum(edges.map((e, k) => seen.attention[e][h] * byWeight[k]));
      const partOf = (e, p) => seen.c[i][h][p] + seen.n[graph.senders[e]][h][p];
      edges.forEach((e, k) => {
        const j = graph.senders[e];
        const weight = seen.attention[e][h];
        const byScore = weight * (byWeight[k] - mean);
        outer.forEach((x, channel) => { values[j][h][channel] += weight * x; });
        seen.c[i][h].forEach((_, p) => {
          const [here, first] = [bend(partOf(e, p), slope), bend(partOf(edges[0], p), slope)];
          const scale = byScore * (isV2 ? params.a[h][p] : 1);
          sent[j][h][p] += scale * here;
          asked[i][h][p] += scale * (here - first);
          if (isV2) found.a[h][p] += byScore * leakyRelu(partOf(e, p), slope);
        });
      });
    }));
    const byKernel = (gradient) => params.kernel.map((row, f) => row.map((head, h) =>
      head.map((_, c) => sum(seen.inputs.map((x, i) => x[f] * gradient[i][h][c])))));
    const byBias = (gradient) => params.bias.map((head, h) => head.map((_, c) =>
      sum(gradient.map((row) => row[h][c]))));
    if (isV2) {
      const senders = zip(values, sent, (a, b) => a + b);
      return { ...found, kernel: byKernel(senders), bias: byBias(senders),
        kernelRecv: byKernel(asked), biasRecv: byBias(asked) };
    }
    const byHalf = (gradient) => params.aRecv.map((head, h) => head.map((_, c) =>
      sum(seen.values.map((z, i) => gradient[i][h][0] * z[h][c]))));
    const all = values.map((node, i) => node.map((head, h) => head.map((x, c) =>
      x + asked[i][h][0] * params.aRecv[h][c] + sent[i][h][0] * params.aSend[h][c])));
    return { kernel: byKernel(all), bias: byBias(all), aRecv: byHalf(asked), aSend: byHalf(sent) };
  }

  /* Parameters after a step of gradient descent; those that the layer does not have stay. */
  const step = (params, gradient, rate) => ({
    ...params,
    ...Object.fromEntries(Object.entries(gradient).map(([name, part]) =>
      [name, zip(params[name], part, (x, g) => x - rate * g)])),
  });

  /* All numbers of a setting. */
  function evaluate(graph, setting) {
    const seen = forward(graph, setting);
    const heads = range(setting.params.bias.length);
    return {
      ...seen,
      ...entropies(graph, seen),
      loss: lossOf(graph, seen.outputs).loss,
      causes: graph.pairs.map((pair) => heads.map((h) => causesOf(graph, setting, seen, pair, h))),
      gaps: graph.pairs.map(([i, k]) => gapOf(seen.outputs[i], seen.outputs[k])),
    };
  }

  /* Random parameters of the tutorial's initialiser: uniform numbers, the kernels and `a` by Xavier.
     `random` returns numbers from 0 to 1. */
  function draw(random, numFeatures, heads, channels) {
    const uniform = (bound) => (2 * random() - 1) * bound;
    const xavier = (inputs, outputs) => 1.414 * Math.sqrt(6 / (inputs + outputs));
    const byHead = (bound) => range(heads).map(() => range(channels).map(() => uniform(bound)));
    const kernel = () => range(numFeatures).map(() => byHead(xavier(numFeatures, heads * channels)));
    const bias = () => byHead(1 / Math.sqrt(numFeatures));
    const half = () => byHead(xavier(2 * channels, heads));
    return {
      kernel: kernel(), bias: bias(), aRecv: half(), aSend: half(),
      kernelRecv: kernel(), biasRecv: bias(), a: byHead(xavier(channels, heads)),
    };
  }

  return { range, sum, map, forward, evaluate, signsOf, gradientOf, step, draw, isEqualBy };
})();
