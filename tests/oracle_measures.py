"""The oracle of what is measured of a layer: plain NumPy that shares no code with the package.

Everything is done in the most obvious way, node by node and pair by pair. Axes as in `oracle`.
"""

from collections import Counter

import numpy as np
import oracle
from oracle import Array, Params


def self_attention(attention: Array, senders: Array, receivers: Array) -> Array:
    """Attention of every receiver with a self-loop on itself, over all of its loops [S, H]."""
    nodes = np.unique(receivers[senders == receivers])
    loops = [(receivers == i) & (senders == i) for i in nodes]
    found = [attention[is_loop].sum(0) for is_loop in loops]
    return np.array(found).reshape(len(nodes), *attention.shape[1:])


def favourite_share(attention: Array, senders: Array, receivers: Array) -> Array:
    """Share of the receivers with two distinct senders that have the commonest favourite [H]."""
    favourites = []
    for i in np.unique(receivers):
        edges = np.flatnonzero(receivers == i)
        if len(set(senders[edges])) >= 2:
            row = attention[edges]
            is_largest = row == row.max(0)
            ids = np.where(is_largest, senders[edges][:, None], np.inf)
            favourites.append(ids.min(0))
    table = np.array(favourites)
    return np.array([Counter(column).most_common(1)[0][1] / len(table) for column in table.T])


def lower_median(values: Array, weights: Array) -> float:
    """The smallest value that half of all, by weight, do not exceed."""
    below = [weights[values <= value].sum() for value in values]
    return float(min(values[np.array(below) >= weights.sum() / 2]))


def gap(outputs: Array, i: int, k: int) -> float:
    """The largest absolute difference of two nodes' outputs."""
    return float(np.abs(outputs[i] - outputs[k]).max())


def gat_primary_cause(c_i: float, c_k: float, n_row: Array, slope: float) -> str:
    """Why two twins of GAT are equal in a head, or `separated`; not trivial ones."""
    equal, causes = oracle.gat_equal_by_signs(np.float64(c_i), np.float64(c_k), n_row, slope)
    names = ["equal_query", "positive", "negative", "uniform"]
    first = [name for name in names if causes[name]]
    return "linear" if slope == 1 else [*first, "separated"][0 if equal else -1]


def gatv2_primary_cause(r_i: Array, r_k: Array, l_row: Array) -> str:
    """Likewise for GATv2, slope != 1, of r [C] and l [S, C]; the causes may differ by channel."""
    inner = np.stack([r_i + l_row, r_k + l_row])
    by_channel = {
        "equal_query": r_i == r_k,
        "positive": np.all(inner >= 0, axis=(0, 1)),
        "negative": np.all(inner <= 0, axis=(0, 1)),
        "uniform": np.ptp(l_row, axis=0) <= 4 * np.spacing(np.abs(l_row).max(axis=0)),
    }
    first = [name for name, holds in by_channel.items() if holds.all()]
    is_equal = bool(oracle.gatv2_equal_by_signs(r_i, r_k, l_row))
    return [*first, "channelwise"][0] if is_equal else "separated"


def effective_rank(x: Array) -> float:
    """Exp of the entropy of the singular values, divided by their sum."""
    s = np.linalg.svd(x, compute_uv=False)
    p = s[s > 1e-7 * s.max()] / s.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def dirichlet_energy(x: Array, senders: Array, receivers: Array) -> float:
    """Squared distances of the ends of all edges, added up and divided by the number of nodes."""
    edges = zip(senders, receivers, strict=True)
    return float(sum(((x[i] - x[j]) ** 2).sum() for j, i in edges) / len(x))


def distance_to_mean(x: Array) -> float:
    """Root of the sum of all squared distances of nodes to their mean."""
    return float(np.sqrt(sum(((row - x.mean(0)) ** 2).sum() for row in x)))


def distinct_rows(x: Array, step: float | None = None) -> int:
    """Number of distinct rows; with a step, in multiples of this part of the spread."""
    if step is not None:
        x = np.rint((x - x.min()) / (x.max() - x.min()) / step)
    return len({tuple(row) for row in x + 0.0})


def balance(p: Params, after: Params) -> Array:
    """|W_i|^2 - |a_i|^2 - |W_next,i|^2 of the units of concatenated heads [H C], biases in W."""
    heads, channels = p["a" if "a" in p else "a_recv" if "a_recv" in p else "bias"].shape
    found = []
    for h, c in np.ndindex(heads, channels):
        unit = h * channels + c
        total = 0.0
        for name in ("kernel", "kernel_send", "kernel_recv", "bias", "bias_send", "bias_recv"):
            total += (p[name][..., h, c] ** 2).sum() if name in p else 0.0
        for name in ("a", "a_recv", "a_send"):
            total -= p[name][h, c] ** 2 if name in p else 0.0
        if "output_bias" in p:
            total += p["output_bias"][unit] ** 2
        if "residual_kernel" in p:
            total += (p["residual_kernel"][:, unit] ** 2).sum()
        for name in ("kernel", "kernel_send", "kernel_recv", "residual_kernel"):
            total -= (after[name][unit] ** 2).sum() if name in after else 0.0
        found.append(total)
    return np.array(found)
