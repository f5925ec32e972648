"""What a diagnosis has to find, by comparing all pairs: plain NumPy in float64, no package code.

Layers are dictionaries of arrays in the package's own names; edges are lists of (sender, receiver).
"""

import itertools
import math

import numpy as np

SAME = 1e-9  # of the spread: what float64 leaves of a difference that is none


def leaky(x, slope):
    return np.where(x > 0, x, slope * x)


def layer_of(kind, params, x, edges, slope, concat=True, features=None):
    """Return outputs [N, O], and the receivers' and senders' parts of the logits [N, H, D].

    Features [E, F] of the edges, in their order, add a third part to GAT's and GATv2's logits.
    """
    p = {k: np.asarray(v, np.float64) for k, v in params.items() if v is not None}
    num = len(x)
    senders = [[s for s, r in edges if r == i] for i in range(num)]
    if kind == "gcn":
        return gcn_of(p, x, senders), None
    kernel = p["kernel"] if kind == "gat" else p["kernel_send"]
    heads, channels = kernel.shape[1:]
    z = np.einsum("nf,fhc->nhc", x, kernel)
    if kind == "gat":
        z = z + p.get("bias", 0.0)
        c = np.einsum("nhc,hc->nh", z, p["a_recv"])[..., None]
        n = np.einsum("nhc,hc->nh", z, p["a_send"])[..., None]
    else:
        kernel_recv = p.get("kernel_recv", kernel)
        c = np.einsum("nf,fhc->nhc", x, kernel_recv)
        c = c + p.get("bias_recv", p.get("bias_send", 0.0) if kernel_recv is kernel else 0.0)
        z = z + p.get("bias_send", 0.0)
        n = z
    extra = np.zeros((len(edges), *n.shape[1:]))
    if features is not None:
        extra = np.einsum("ef,fhc->ehc", features, p["edge_kernel"])
        if kind == "gat":
            extra = np.einsum("ehc,hc->eh", extra, p["a_edge"])[..., None]
    places = [[k for k, (_, r) in enumerate(edges) if r == i] for i in range(num)]
    out = np.zeros((num, heads, channels))
    for i, h in itertools.product(range(num), range(heads)):
        if not senders[i]:
            continue
        ends = zip(senders[i], places[i], strict=True)
        parts = np.stack([c[i, h] + n[j, h] + extra[k, h] for j, k in ends])
        score = leaky(parts, slope)
        score = score[:, 0] if kind == "gat" else score @ p["a"][h]
        weight = np.exp(score - score.max())
        out[i, h] = (weight / weight.sum()) @ z[senders[i], h]
    merged = out.reshape(num, -1) if concat else out.mean(axis=1)
    if "residual_kernel" in p:
        merged = merged + x @ p["residual_kernel"]
    return merged + p.get("output_bias", 0.0), (c, n)


def gcn_of(p, x, senders):
    z = x @ p["kernel"][:, 0] + p["bias"][0] if "bias" in p else x @ p["kernel"][:, 0]
    degree = [max(1, len(s)) for s in senders]
    out = np.zeros_like(z)
    for i, row in enumerate(senders):
        for j in row:
            out[i] += z[j] / math.sqrt(degree[i] * degree[j])
    return out + p.get("output_bias", 0.0)


def classes_by_values(values):
    """Give every node the smallest id of a node with the same row, by comparing all pairs."""
    tolerance = SAME * max(np.ptp(values), 1e-300)
    found = []
    for i in range(len(values)):
        same = [j for j in range(i) if np.max(np.abs(values[i] - values[j])) <= tolerance]
        found.append(found[same[0]] if same else i)
    return np.array(found)


def twins_of(edges, num, features=None):
    kinds = [0] * len(edges) if features is None else [str(row) for row in features.tolist()]
    rows = [[] for _ in range(num)]
    for (s, r), kind in zip(edges, kinds, strict=True):
        rows[r].append((s, kind))
    rows = [sorted(row) for row in rows]
    return np.array([rows.index(row) for row in rows])


def colours_of(x, edges, features=None):
    """Refine colours until none splits any more."""
    kinds = [0] * len(edges) if features is None else [str(row) for row in features.tolist()]
    known = [tuple(row) for row in x.tolist()]
    colour, before = [known.index(row) for row in known], None
    while colour != before:
        before = colour
        rows = [[] for _ in colour]
        for (s, r), kind in zip(edges, kinds, strict=True):
            rows[r].append((colour[s], kind))
        signs = [(old, tuple(sorted(row))) for old, row in zip(colour, rows, strict=True)]
        colour = [signs.index(sign) for sign in signs]
    return np.array(colour)


def floor_of(labels, classes):
    total = 0.0
    for name in set(classes.tolist()):
        members = [label for label, k in zip(labels, classes, strict=True) if k == name]
        for label in set(members):
            share = members.count(label) / len(members)
            total -= members.count(label) * math.log(share)
    return total / len(labels)


def cause_of(parts, senders, i, k, head, extra=None):
    """Return the primary cause of a pair of twins in a head, by the definitions.

    Parts are the receivers' and the senders' [N, H, D]; extra [len(senders), D] is the edges' own.
    """
    c, n = parts
    own = np.zeros((len(senders), n.shape[2])) if extra is None else extra
    if len({(s, *row) for s, row in zip(senders, own.tolist(), strict=True)}) <= 1:
        return "trivial"
    n = n[senders, head] + own
    by_channel = []
    for d in range(n.shape[1]):
        held = set()
        # Rows that an earlier layer made equal differ by float64's rounding, as sums are ordered.
        if np.isclose(c[i, head, d], c[k, head, d], rtol=1e-12, atol=1e-15):
            held.add("equal_query")
        logits = np.concatenate([c[i, head, d] + n[:, d], c[k, head, d] + n[:, d]])
        if (logits >= 0).all():
            held.add("positive")
        if (logits <= 0).all():
            held.add("negative")
        if np.ptp(n[:, d]) <= 1e-6 * np.abs(n[:, d]).max():
            held.add("uniform")
        by_channel.append(held)
    for name in ("equal_query", "positive", "negative", "uniform"):
        if all(name in held for held in by_channel):
            return name
    return "channelwise" if all(by_channel) else "separated"
