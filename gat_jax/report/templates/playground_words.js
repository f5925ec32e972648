/* What the page says: its examples, and sentences on what is seen. */
const Words = (() => {
  "use strict";
  const ARTICLE = { recv: [-0.2, 0.3], send: [0.1, -0.1] };
  const APART = { recv: [-0.4, 0.2], send: [0.3, -0.1] };
  const negative = (size) => [[-size, 0], [0, -size]];

  /* Heads are {recv, send} or {a, Wrecv}; what is left out is as in the article, W the identity.
     `about` is true of the tutorial's graph; of others only what `elsewhere` says. */
  const PRESETS = [
    {
      name: "The article\u2019s case",
      elsewhere: "The article\u2019s parameters",
      heads: [ARTICLE],
      about: "W is the identity and a = [\u22120.2, 0.3 | 0.1, \u22120.1]. The article calls the " +
        "twins nodes 3 and 4. It sees that all senders have the same score, so that attention " +
        "is uniform. Look at the signs too: all logits are positive, and that is what keeps the " +
        "twins equal once a moves.",
    },
    {
      name: "Separated",
      heads: [APART],
      about: "Logits of both signs: LeakyReLU bends between them, and the receiver\u2019s part no " +
        "longer cancels.",
    },
    {
      name: "GATv2",
      elsewhere: "GATv2",
      layer: "gatv2",
      heads: [{ a: [0.5, -0.4], Wrecv: negative(0.8) }],
      about: "GATv2 bends every channel by itself. Twins are equal only where every channel stays " +
        "on one side of its bend.",
    },
    {
      name: "Standardised features",
      elsewhere: "Standardised features",
      scaling: "standardised",
      heads: [{ recv: [-0.2, 0.3], send: [0.3, 0.1] }],
      about: "Raw features 0 to 7 are none of them negative, so logits tend to have one sign. " +
        "Around zero they have both. Switch the features to raw, and these same parameters make " +
        "the twins equal.",
    },
    {
      name: "Two heads",
      elsewhere: "Two heads",
      heads: [ARTICLE, APART],
      about: "Twins are equal only if every head makes them equal. Head 1 is the article\u2019s " +
        "and does; head 2 separates them.",
    },
  ];
  // Further heads, for those who ask for more of them.
  const SPARE = [
    ARTICLE,
    APART,
    { recv: [0.3, -0.4], send: [0.2, 0.1] },
    { recv: [0.1, 0.2], send: [-0.1, 0.3] },
  ];

  const ONE_SIGN = "where LeakyReLU is a straight line, so the softmax cancels what belongs to " +
    "the receiver";
  const BENT = "so LeakyReLU bends between them and the receiver\u2019s part no longer cancels";
  const REASONS = {
    trivial: "each receives from one node only, whatever the parameters",
    linear: "with slope 1 LeakyReLU is a straight line, and the softmax cancels what belongs to " +
      "the receiver",
    equal_query: "both ask the same: their receiver\u2019s parts c are equal",
    positive: `every logit of both rows is positive, ${ONE_SIGN}`,
    negative: `every logit of both rows is negative, ${ONE_SIGN}`,
    uniform: "all their senders have the same score, so attention is uniform whoever asks",
    channelwise: "every channel stays on one side of its bend or does not vary, though not all " +
      "for the same reason",
    rounding: "their logits have both signs, though rounding leaves no difference to be seen",
    separated: `their logits do not all have one sign, ${BENT}`,
  };
  const OF_CHANNELS = {
    ...REASONS,
    positive: `every sum c + n is positive in all channels, ${ONE_SIGN}`,
    negative: `every sum c + n is negative in all channels, ${ONE_SIGN}`,
    separated: `in some channel their sums c + n do not all have one sign, ${BENT}`,
  };

  /* One sentence on a pair, as markup, from the causes by head. */
  function sentenceOf(layer, [i, k], byHead) {
    const reasons = layer === "gatv2" ? OF_CHANNELS : REASONS;
    const primary = byHead.map((causes) => causes[0]);
    const apart = Attention.range(byHead.length).filter((h) => !Attention.isEqualBy(byHead[h]));
    if (apart.length > 0) {
      const begin = `Nodes ${i} and ${k} come out <b>different</b>`;
      const reason = reasons[primary[apart[0]]];
      if (byHead.length === 1) return `${begin}: ${reason}.`;
      if (apart.length === byHead.length) return `${begin} in every head: in head 1 ${reason}.`;
      const which = `head${apart.length > 1 ? "s" : ""} ${apart.map((h) => h + 1).join(", ")}`;
      return `${begin}: in ${which} of ${byHead.length} ${reason}. One such head is enough.`;
    }
    const begin = `Nodes ${i} and ${k} come out <b>equal</b>`;
    if (byHead.length > 1 && new Set(primary).size > 1) {
      const causes = primary.map((name, h) => `${h + 1} ${name.replace("_", " ")}`).join(", ");
      return `${begin}: every head makes them equal, each for its reason (${causes}).`;
    }
    const where = byHead.length > 1 ? ` in all ${byHead.length} heads` : "";
    const isAlsoUniform = primary[0] !== "uniform" && byHead[0].includes("uniform");
    const also = isAlsoUniform
      ? " Attention is uniform as well, but a small change ends that and not the equality."
      : "";
    return `${begin}${where}: ${reasons[primary[0]]}.${also}`;
  }

  /* What gradient descent has done; `history` has {entropy, gap, isEqual} at every step. */
  function storyOf(history, isOverflown) {
    const [first, now, steps] = [history[0], history[history.length - 1], history.length - 1];
    if (isOverflown) {
      return "The next step leads to numbers that are not finite. Reset, and take a smaller rate.";
    }
    if (steps === 0) return "Press Play: watch the entropy leave its maximum, and watch the gap.";
    const moved = `After ${steps} step${steps > 1 ? "s" : ""} the entropy of the twins is ` +
      `${Draw.percent(now.entropy)} of its maximum (${Draw.percent(first.entropy)} at step 0), and`;
    if (!now.isEqual && now.gap === 0) return `${moved} rounding hides what separates the twins.`;
    if (!now.isEqual) return `${moved} the twins are ${Draw.small(now.gap)} apart.`;
    const wasAlways = history.every((record) => record.isEqual);
    return `${moved} the twin gap is ${wasAlways ? "still 0" : "0 again"}: no gradient pushes ` +
      "equal twins apart.";
  }

  return { PRESETS, SPARE, ARTICLE_A: [0.3, -0.2], sentenceOf, storyOf };
})();
