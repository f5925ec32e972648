"""Dense float64 oracle for the tests: plain NumPy that shares no code with the package.

Conventions: receiver i, sender j, z = x W + b, logit_ij = a_recv.z_i + a_send.z_j (+ edge term),
alpha_i = softmax over the incoming edges of LeakyReLU(logit) / temperature, out_i = sum_j alpha_ij
z_j. Axes: B draws, R runs, T steps, N nodes, E edges, H heads, F features, C channels, S support.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Array = npt.NDArray[Any]
Params = dict[str, Array]

# The tutorial's graph: ADJACENCY[i, j] = 1 says that i receives from j. Nodes 2 and 3 are twins.
ADJACENCY = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]])
RECEIVERS, SENDERS = (ids.astype(np.int64) for ids in np.nonzero(ADJACENCY))
FEATURES = np.arange(8.0).reshape(4, 2)
LABELS = (0, 0, 0, 1)
TWINS = (2, 3)
SUPPORT = (1, 2, 3)
PRINTED_OUTPUTS = np.array(  # two heads of one channel, W = I, b = 0
    [[1.2913, 1.9800], [4.2344, 3.7725], [4.6798, 4.8362], [4.5043, 4.7351]]
)
ONE_HEAD_OUTPUTS = np.array([[1.0, 2.0], [3.0, 4.0], [4.0, 5.0], [4.0, 5.0]])  # article, one head
A_RECV, A_SEND = np.array([-0.2, 0.3]), np.array([0.1, -0.1])  # the article's a = [recv | send]


# --- 1. layers on edge lists ---------------------------------------------------------------------


def leaky_relu(x: Array, slope: float) -> Array:
    """x where Re x >= 0, slope x elsewhere."""
    return np.where(np.real(x) >= 0, x, slope * x)


def _attend(scores: Array, values: Array, senders: Array, receivers: Array) -> tuple[Array, Array]:
    """Per receiver: softmax of scores [E, H] over its incoming edges, weighted sum of values."""
    attention = np.zeros_like(scores)
    out = np.zeros(values.shape, np.result_type(scores, values))
    for i in range(len(values)):
        edges = np.flatnonzero(np.asarray(receivers) == i)
        if len(edges) > 0:
            weights = np.exp(scores[edges] - np.real(scores[edges]).max(0))
            attention[edges] = weights / weights.sum(0)
            out[i] = np.einsum("eh,ehc->hc", attention[edges], values[np.asarray(senders)[edges]])
    return attention, out


def gat(
    x: Array,
    senders: Array,
    receivers: Array,
    kernel: Array,
    a_recv: Array,
    a_send: Array,
    bias: Array | None = None,
    *,
    slope: float = 0.2,
    temperature: float = 1.0,
    edge_scores: Array | None = None,
) -> dict[str, Array]:
    """GAT: logit_ij = c_i + n_j + e_ij, c = a_recv.z, n = a_send.z, z = x W + bias [H, C]."""
    z = np.einsum("nf,fhc->nhc", x, kernel) + (0.0 if bias is None else bias)
    c, n = (z * a_recv).sum(-1), (z * a_send).sum(-1)
    logits = c[receivers] + n[senders] + (0.0 if edge_scores is None else edge_scores)
    attention, out = _attend(leaky_relu(logits, slope) / temperature, z, senders, receivers)
    return {"out": out, "c": c, "n": n, "logits": logits, "attention": attention}


def gatv2(
    x: Array,
    senders: Array,
    receivers: Array,
    kernel_send: Array,
    kernel_recv: Array,
    a: Array,
    bias_send: Array | None = None,
    bias_recv: Array | None = None,
    *,
    slope: float = 0.2,
    temperature: float = 1.0,
    edge_projection: Array | None = None,
) -> dict[str, Array]:
    """GATv2: score_ij = sum_k a_k LeakyReLU(l_jk + r_ik + e_ijk); the values are l."""
    left = np.einsum("nf,fhc->nhc", x, kernel_send) + (0.0 if bias_send is None else bias_send)
    right = np.einsum("nf,fhc->nhc", x, kernel_recv) + (0.0 if bias_recv is None else bias_recv)
    inner = left[senders] + right[receivers] + (0.0 if edge_projection is None else edge_projection)
    scores = (a * leaky_relu(inner, slope)).sum(-1)
    attention, out = _attend(scores / temperature, left, senders, receivers)
    return {"out": out, "c": right, "n": left, "logits": scores, "attention": attention}


def gcn(
    x: Array,
    senders: Array,
    receivers: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    normalization: str = "mean",
) -> dict[str, Array]:
    """GCN: out_i = sum_j w_ij (x_j W + bias); w = 1/d_i or 1/sqrt(d_i max(d_j, 1)), d = in-degree.

    As in `gat`, the bias is the projection's: a node without edges has output 0.
    """
    z = x @ kernel + (0.0 if bias is None else bias)
    degree = np.bincount(receivers, minlength=len(x))
    if normalization == "mean":
        weights = 1.0 / degree[receivers]
    else:
        weights = 1.0 / np.sqrt(degree[receivers] * np.maximum(degree[senders], 1))
    out = np.zeros_like(z)
    np.add.at(out, receivers, weights[:, None] * z[senders])
    return {"out": out, "weights": weights}


def gelu(x: Array) -> Array:
    """x times the probability that a Gaussian number is below it; for complex x too."""
    return 0.5 * x * (1 + special.erf(x / np.sqrt(2)))


def elu(x: Array) -> Array:
    """x where Re x > 0, e^x - 1 elsewhere."""
    return np.where(np.real(x) > 0, x, np.expm1(x))


def norm(x: Array, kind: str, scale: Any, shift: Any) -> Array:
    """Centre and scale over a node's features or over the nodes, then an affine map."""
    if kind == "none":
        return x
    axis = {"layer": 1, "batch": 0}[kind]
    centred = x - x.mean(axis, keepdims=True)
    variance = (centred**2).mean(axis, keepdims=True)
    return scale * centred / np.sqrt(variance + 1e-5) + shift


def residual_blocks(
    x: Array,
    p: Params,
    attend: Callable[[int, Array], Array],
    *,
    depth: int,
    norm_kind: str,
    sep: bool,
) -> Array:
    """x + f(norm(x)) `depth` times between two projections; parameters by dotted names.

    `attend(d, y)` is the merged output of the attention layer of block d.
    """
    x = gelu(x @ p["input.kernel"] + p["input.bias"])
    for d in range(depth):
        b = f"blocks.{d}."
        y = norm(x, norm_kind, p.get(b + "norm.scale"), p.get(b + "norm.shift"))
        message = attend(d, y)
        z = np.concatenate([y, message], axis=1) if sep else message
        hidden = gelu(z @ p[b + "hidden.kernel"] + p[b + "hidden.bias"])
        x = x + hidden @ p[b + "output.kernel"] + p[b + "output.bias"]
    x = norm(x, norm_kind, p.get("norm.scale"), p.get("norm.shift"))
    return x @ p["output.kernel"] + p["output.bias"]


def complex_step_gradient(scalar_function: Callable[[Params], Any], arrays: Params) -> Params:
    """df/dx = Im f(x + i h) / h with h = 1e-30, one entry at a time; exact to rounding."""
    step = 1e-30
    gradient: Params = {}
    for name, array in arrays.items():
        gradient[name] = np.zeros(np.shape(array))
        for index in np.ndindex(*np.shape(array)):
            moved = np.array(array, np.complex128)
            moved[index] += 1j * step
            value = scalar_function({**arrays, name: moved})
            gradient[name][index] = np.imag(value) / step
    return gradient


# --- 2. entropy ----------------------------------------------------------------------------------


def attention_entropy(attention: Array, receivers: Array, num_nodes: int) -> Array:
    """-sum_j alpha log alpha per node and head [N, H], in nats; 0 log 0 = 0."""
    entropy = np.zeros((num_nodes, *attention.shape[1:]))
    np.add.at(entropy, receivers, -attention * np.log(np.where(attention > 0, attention, 1.0)))
    return entropy


def normalised_entropy(attention: Array, receivers: Array, num_nodes: int) -> Array:
    """Entropy / log(number of incoming edges) [N, H]; NaN for at most one edge."""
    degree = np.bincount(receivers, minlength=num_nodes)
    largest = np.where(degree > 1, np.log(np.maximum(degree, 2)), np.nan)
    return attention_entropy(attention, receivers, num_nodes) / largest[:, None]


def entropy_deficit(scores: Array) -> Array:
    """1 - entropy(softmax(scores)) / log S over the last axis, without cancellation.

    With alpha = (1 + d) / S it is mean_j [(1 + d_j) log(1 + d_j) - d_j] / log S, as sum_j d_j = 0.
    """
    excess = np.expm1(scores - scores.max(-1, keepdims=True))
    mean = excess.mean(-1, keepdims=True)
    d = (excess - mean) / (1 + mean)
    full = (1 + d) * np.log1p(np.maximum(d, -1 + 1e-16)) - d
    terms = np.where(np.abs(d) < 1e-4, d**2 / 2 - d**3 / 6, full)
    return terms.mean(-1) / np.log(scores.shape[-1])


# --- 3. symmetry by brute force ------------------------------------------------------------------


def twin_pairs(
    senders: Array, receivers: Array, num_nodes: int, edge_features: Array | None = None
) -> list[tuple[int, int, bool]]:
    """All (i, k, is_trivial), i < k, with equal multisets of (sender, edge feature)."""
    supports: list[Counter[tuple[int, bytes]]] = [Counter() for _ in range(num_nodes)]
    for e, (j, i) in enumerate(zip(senders, receivers, strict=True)):
        feature = b"" if edge_features is None else (np.asarray(edge_features[e]) + 0.0).tobytes()
        supports[int(i)][int(j), feature] += 1
    return [
        (i, k, len(supports[i]) <= 1)
        for i in range(num_nodes)
        for k in range(i + 1, num_nodes)
        if supports[i] == supports[k]
    ]


def rows_equal(row_i: Array, row_k: Array, tolerance: float = 1e-12) -> Array:
    """Whether two attention rows [..., S] agree within the tolerance."""
    return np.all(np.abs(row_i - row_k) <= tolerance, axis=-1)


def _constant(values: Array, axis: int) -> Array:
    """max - min <= 4 ulp of max |values| along the axis."""
    return np.ptp(values, axis=axis) <= 4 * np.spacing(np.abs(values).max(axis=axis))


def gat_equal_by_signs(
    c_i: Array, c_k: Array, n_row: Array, slope: float
) -> tuple[Array, dict[str, Array]]:
    """Equality of one head's two rows and its causes, from c_i, c_k [...] and n_row [..., S]."""
    logits = np.stack([c_i[..., None] + n_row, c_k[..., None] + n_row])
    causes = {
        "positive": np.all(logits >= 0, axis=(0, -1)),
        "negative": np.all(logits <= 0, axis=(0, -1)),
        "uniform": _constant(n_row, -1),
        "equal_query": np.asarray(c_i == c_k),
    }
    equal = np.any(list(causes.values()), axis=0) | (slope == 1)
    return equal, causes


def gatv2_equal_by_signs(r_i: Array, r_k: Array, l_row: Array) -> Array:
    """Each channel one-signed in both rows, l constant or r equal; r [..., C], l [..., S, C].

    Necessary and sufficient for generic a and slope != 1.
    """
    inner = np.stack([r_i[..., None, :] + l_row, r_k[..., None, :] + l_row])
    one_signed = np.all(inner >= 0, axis=(0, -2)) | np.all(inner <= 0, axis=(0, -2))
    return np.all(one_signed | _constant(l_row, -2) | (r_i == r_k), axis=-1)


def loss_floor(labels: Array, groups: list[list[int]]) -> float:
    """(1/N) sum_groups sum_labels -m log(m / group size) over labelled nodes (label >= 0)."""
    labels = np.asarray(labels)
    total = 0.0
    for group in groups:
        counts = Counter(int(labels[v]) for v in group if labels[v] >= 0)
        size = sum(counts.values())
        total += sum(-m * np.log(m / size) for m in counts.values())
    return float(total / np.sum(labels >= 0))


# --- 4. initialisation of the tutorial's torch layer ---------------------------------------------


def _uniform(rng: np.random.Generator, bound: float, *shape: int) -> Array:
    return rng.uniform(-bound, bound, shape)


def _xavier(fan_in: int, fan_out: int) -> float:
    return 1.414 * float(np.sqrt(6 / (fan_in + fan_out)))


def tutorial_initializer(
    rng: np.random.Generator, num_draws: int, num_features: int, heads: int, channels: int
) -> Params:
    """Xavier-uniform W (fans F, HC) and a (fans 2C, H), gain 1.414; bias U(+-1/sqrt F)."""
    bound_a = _xavier(2 * channels, heads)
    bound_w = _xavier(num_features, heads * channels)
    return {
        "kernel": _uniform(rng, bound_w, num_draws, num_features, heads, channels),
        "bias": _uniform(rng, num_features**-0.5, num_draws, heads, channels),
        "a_recv": _uniform(rng, bound_a, num_draws, heads, channels),
        "a_send": _uniform(rng, bound_a, num_draws, heads, channels),
    }


def tutorial_initializer_gatv2(
    rng: np.random.Generator, num_draws: int, num_features: int, heads: int, channels: int
) -> Params:
    """Two independent projections drawn like the tutorial's, and a (fans C, H)."""
    shape = (num_draws, num_features, heads, channels)
    bound_w = _xavier(num_features, heads * channels)
    return {
        "kernel_send": _uniform(rng, bound_w, *shape),
        "kernel_recv": _uniform(rng, bound_w, *shape),
        "bias_send": _uniform(rng, num_features**-0.5, num_draws, heads, channels),
        "bias_recv": _uniform(rng, num_features**-0.5, num_draws, heads, channels),
        "a": _uniform(rng, _xavier(channels, heads), num_draws, heads, channels),
    }


# --- 5. the ids of claims.json -------------------------------------------------------------------


def tutorial_max_abs_error() -> float:
    """tutorial.max_abs_error: two heads of one channel, W = I."""
    a_recv, a_send = np.array([[-0.2], [0.1]]), np.array([[0.3], [-0.1]])
    out = gat(FEATURES, SENDERS, RECEIVERS, np.eye(2)[:, :, None], a_recv, a_send)["out"]
    return float(np.abs(out[:, :, 0] - PRINTED_OUTPUTS).max())


def article_example() -> dict[str, float]:
    """article.normalised_entropy and article.twin_gap: one head of two channels, W = I."""
    layer = gat(FEATURES, SENDERS, RECEIVERS, np.eye(2)[:, None], A_RECV[None], A_SEND[None])
    entropy = normalised_entropy(layer["attention"], RECEIVERS, 4)
    gap = np.abs(layer["out"][2] - layer["out"][3]).max()
    return {"normalised_entropy": float(entropy[list(TWINS)].mean()), "twin_gap": float(gap)}


def draw_features(rng: np.random.Generator, num_draws: int, kind: str) -> Array:
    """Features [B, 4, 2]: raw, standardised (per column, population sd), uniform01 or normal."""
    match kind:
        case "uniform01":
            return rng.uniform(size=(num_draws, 4, 2))
        case "normal":
            return rng.normal(size=(num_draws, 4, 2))
        case "standardised":
            x = (FEATURES - FEATURES.mean(0)) / FEATURES.std(0)
        case _:
            x = FEATURES
    return np.broadcast_to(x, (num_draws, 4, 2))


def _project(x: Array, kernel: Array, bias: Array) -> Array:
    """z [B, N, H, C] for draws of features and parameters."""
    return np.einsum("bnf,bfhc->bnhc", x, kernel) + bias[:, None]


def _twin_scores(z: Array, a_recv: Array, a_send: Array) -> tuple[Array, Array, Array]:
    """c of both twins [B, H] and n of their support [B, H, S]."""
    c = (z * a_recv[:, None]).sum(-1)
    n = (z * a_send[:, None]).sum(-1)
    return c[:, TWINS[0]], c[:, TWINS[1]], np.moveaxis(n[:, list(SUPPORT)], 1, -1)


def collisions_per_head(
    rng: np.random.Generator,
    num_draws: int,
    *,
    layer: str = "gat",
    heads: int = 1,
    channels: int = 2,
    features: str = "raw",
    slope: float = 0.2,
) -> Array:
    """Whether nodes 2 and 3 have equal rows, per draw and head [B, H].

    Holds all draws at once (about 1 kB per draw at H = 8): call it with at most some 200,000.
    """
    x = draw_features(rng, num_draws, features)
    if layer == "gat":
        p = tutorial_initializer(rng, num_draws, 2, heads, channels)
        z = _project(x, p["kernel"], p["bias"])
        return gat_equal_by_signs(*_twin_scores(z, p["a_recv"], p["a_send"]), slope)[0]
    p = tutorial_initializer_gatv2(rng, num_draws, 2, heads, channels)
    left = np.moveaxis(_project(x, p["kernel_send"], p["bias_send"])[:, list(SUPPORT)], 1, 2)
    right = _project(x, p["kernel_recv"], p["bias_recv"])
    return gatv2_equal_by_signs(right[:, TWINS[0]], right[:, TWINS[1]], left)


def init_collision(rng: np.random.Generator, num_draws: int, **setting: Any) -> tuple[float, int]:
    """init.collision.{gat,gatv2}.*: all heads equal; `setting` as in `collisions_per_head`."""
    return float(collisions_per_head(rng, num_draws, **setting).all(-1).mean()), num_draws


def init_collision_gcn(rng: np.random.Generator, num_draws: int) -> tuple[float, int]:
    """init.collision.gcn: equal outputs under both normalisations."""
    count = 0
    for kernel in _uniform(rng, _xavier(2, 2), num_draws, 2, 2):
        for kind in ("mean", "symmetric"):
            out = gcn(FEATURES, SENDERS, RECEIVERS, kernel, normalization=kind)["out"]
            count += int(rows_equal(out[TWINS[0]], out[TWINS[1]]))
    return count / (2 * num_draws), num_draws


def init_one_head(
    rng: np.random.Generator, num_draws: int, slope: float = 0.2
) -> dict[str, tuple[float, int]]:
    """init.{match_4_decimals,uniform_attention,explained_by_regime}.gat.h1, and rows_equal."""
    p = tutorial_initializer(rng, num_draws, 2, 1, 2)
    z = _project(draw_features(rng, num_draws, "raw"), p["kernel"], p["bias"])
    c_i, c_k, n = _twin_scores(z, p["a_recv"], p["a_send"])
    scores = leaky_relu(np.stack([c_i[..., None] + n, c_k[..., None] + n]), slope)[:, :, 0]
    rows = np.exp(scores - scores.max(-1, keepdims=True))
    rows /= rows.sum(-1, keepdims=True)
    out = np.round(np.einsum("tbs,bsc->tbc", rows, z[:, list(SUPPORT), 0]), 4)
    equal, causes = gat_equal_by_signs(c_i, c_k, n, slope)
    regime = (causes["positive"] | causes["negative"])[equal]
    return {
        "match_4_decimals": (float(np.all(out[0] == out[1], axis=-1).mean()), num_draws),
        "uniform_attention": (float((entropy_deficit(scores) < 1e-6).all(0).mean()), num_draws),
        "explained_by_regime": (float(regime.mean()), int(equal.sum())),
        "rows_equal": (float(rows_equal(rows[0], rows[1]).mean()), num_draws),
    }


def gaussian_collision(rng: np.random.Generator, num_draws: int) -> tuple[float, int]:
    """init.collision.gat.gaussian: W = I, no bias, a ~ N(0, 1)."""
    z = np.broadcast_to(FEATURES[:, None], (num_draws, 4, 1, 2))
    a_recv, a_send = rng.normal(size=(2, num_draws, 1, 2))
    return float(gat_equal_by_signs(*_twin_scores(z, a_recv, a_send), 0.2)[0].mean()), num_draws


def orthant_probability(z_twins: Array, z_support: Array, seed: int = 0) -> float:
    """2 P(all logits < 0), Cov(l_ij, l_kl) = z_i.z_k + z_j.z_l, Gaussian a; quasi-Monte-Carlo."""
    receiving = np.repeat(z_twins, len(z_support), axis=0)
    sending = np.tile(z_support, (2, 1))
    cov: Any = receiving @ receiving.T + sending @ sending.T
    normal = stats.multivariate_normal(np.zeros(len(cov)), cov, allow_singular=True, seed=seed)
    return 2 * float(normal.cdf(np.zeros(len(cov))))


def polar_probability(z_twins: Array, z_support: Array, num_angles: int = 4000) -> float:
    """The same for C = 2 as a mean over the two angles of a = r (cos t, sin t).

    With u = min_i c_i / r_1, v = min_j n_j / r_2 and P(r_1 / r_2 > q) = 1 / (1 + q^2):
    P(r_1 u + r_2 v > 0) = (max(u, 0)^2 + max(v, 0)^2) / (u^2 + v^2).
    """
    angle = (np.arange(num_angles) + 0.5) * 2 * np.pi / num_angles
    direction = np.stack([np.cos(angle), np.sin(angle)])
    u, v = (z_twins @ direction).min(0)[:, None], (z_support @ direction).min(0)
    positive = (np.maximum(u, 0) ** 2 + np.maximum(v, 0) ** 2) / (u**2 + v**2)
    return 2 * float(positive.mean())


def heads_power_law(rng: np.random.Generator, num_draws: int) -> tuple[float, float, int]:
    """heads.power_law.h8: p_8 / p_1^8, and p_8 / (per-head p at H = 8)^8."""
    p_1 = collisions_per_head(rng, num_draws).mean()
    eight = collisions_per_head(rng, num_draws, heads=8)
    p_8 = eight.all(-1).mean()
    return float(p_8 / p_1**8), float(p_8 / eight.mean() ** 8), num_draws


# --- 6. training ---------------------------------------------------------------------------------


def tutorial_loss(params: Params, labels: tuple[int, ...] = LABELS, slope: float = 0.2) -> Any:
    """Mean softmax cross-entropy of one run (no R axis) through `gat`; complex-safe."""
    weights = [params[name] for name in ("kernel", "a_recv", "a_send", "bias")]
    out = gat(FEATURES, SENDERS, RECEIVERS, *weights, slope=slope)["out"].mean(1)
    return np.mean(np.log(np.exp(out).sum(-1)) - out[np.arange(4), list(labels)])


def loss_and_gradient(
    params: Params, labels: tuple[int, ...] = LABELS, slope: float = 0.2
) -> tuple[Params, Params]:
    """Backpropagate R runs by hand: ({loss, collided, entropy} each [R], gradients like params).

    dO = (softmax(out) - y) / N H,  dE_ij = alpha_ij (dO_i.z_j - sum_l alpha_il dO_i.z_l),
    dL = dE LeakyReLU'(L),  dz_j = sum_i alpha_ij dO_i + a_recv sum_l dL_jl + a_send sum_i dL_ij.
    """
    heads = params["kernel"].shape[2]
    z = np.einsum("nf,rfhc->rnhc", FEATURES, params["kernel"]) + params["bias"][:, None]
    c = (z * params["a_recv"][:, None]).sum(-1)
    n = (z * params["a_send"][:, None]).sum(-1)
    logits = c[:, :, None] + n[:, None]
    scores = np.where(ADJACENCY[:, :, None] == 1, leaky_relu(logits, slope), -np.inf)
    alpha = np.exp(scores - scores.max(2, keepdims=True))
    alpha /= alpha.sum(2, keepdims=True)
    out = np.einsum("rijh,rjhc->ric", alpha, z) / heads
    shifted = out - out.max(-1, keepdims=True)
    log_prob = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    target = np.eye(out.shape[-1])[list(labels)]

    d_out = (np.exp(log_prob) - target) / (len(labels) * heads)
    d_alpha = np.einsum("ric,rjhc->rijh", d_out, z)
    d_score = alpha * (d_alpha - (alpha * d_alpha).sum(2, keepdims=True))
    d_logit = d_score * np.where(logits >= 0, 1.0, slope)
    d_c, d_n = d_logit.sum(2)[..., None], d_logit.sum(1)[..., None]
    d_z = np.einsum("rijh,ric->rjhc", alpha, d_out)
    d_z += d_c * params["a_recv"][:, None] + d_n * params["a_send"][:, None]
    gradient = {
        "kernel": np.einsum("nf,rnhc->rfhc", FEATURES, d_z),
        "bias": d_z.sum(1),
        "a_recv": (d_c * z).sum(1),
        "a_send": (d_n * z).sum(1),
    }
    rows = alpha[:, list(TWINS)]
    entropy = -(rows * np.log(np.where(rows > 0, rows, 1.0))).sum(2) / np.log(len(SUPPORT))
    twins = _twin_scores(z, params["a_recv"], params["a_send"])
    record: Params = {
        "loss": -(target * log_prob).sum(-1).mean(-1),
        "collided": np.all(gat_equal_by_signs(*twins, slope)[0], axis=-1),
        "entropy": entropy.mean((1, 2)),
    }
    return record, gradient


def train(
    params: Params,
    *,
    optimizer: str,
    learning_rate: float,
    num_steps: int,
    labels: tuple[int, ...] = LABELS,
    slope: float = 0.2,
) -> Params:
    """Full-batch SGD or Adam on R runs; loss, collided, entropy [R, T + 1], column k: k updates."""
    params = {name: np.array(array, np.float64) for name, array in params.items()}
    first = {name: np.zeros_like(array) for name, array in params.items()}
    second = {name: np.zeros_like(array) for name, array in params.items()}
    records = []
    for k in range(1, num_steps + 2):
        record, gradient = loss_and_gradient(params, labels, slope)
        records.append(record)
        for name, g in gradient.items():
            update = g
            if optimizer == "adam":
                first[name] = 0.9 * first[name] + 0.1 * g
                second[name] = 0.999 * second[name] + 0.001 * g**2
                root = np.sqrt(second[name] / (1 - 0.999**k))
                update = first[name] / (1 - 0.9**k) / (root + 1e-8)
            params[name] = params[name] - learning_rate * update
    return {name: np.stack([r[name] for r in records], axis=1) for name in records[0]}


def training_runs(
    rng: np.random.Generator, num_runs: int, optimizer: str, heads: int, num_steps: int = 1000
) -> Params:
    """training.collided.{sgd,adam}.h{1,4}: histories from the tutorial's initialiser."""
    params = tutorial_initializer(rng, num_runs, 2, heads, 2)
    rate = {"sgd": 0.1, "adam": 0.005}[optimizer]
    return train(params, optimizer=optimizer, learning_rate=rate, num_steps=num_steps)


def lowest_collided_loss(histories: list[Params]) -> float:
    """training.loss_floor: lowest loss at a recorded step at which the twins were collided."""
    losses = [h["loss"][h["collided"]] for h in histories]
    return float(np.concatenate(losses).min())


def article_start(optimizer: str, num_steps: int = 3000) -> tuple[int | None, float]:
    """training.article_start.*: entropy_escape_step (None: never) and collided_share of k >= 0."""
    params = {
        "kernel": np.eye(2)[None, :, None],
        "bias": np.zeros((1, 1, 2)),
        "a_recv": A_RECV[None, None],
        "a_send": A_SEND[None, None],
    }
    history = train(params, optimizer=optimizer, learning_rate=0.01, num_steps=num_steps)
    escaped = np.flatnonzero(history["entropy"][0] < 0.99)
    return int(escaped[0]) if len(escaped) else None, float(history["collided"].mean())
