"""A layer of graph attention and its gradients in float64 NumPy: shares no code with the package.

Local suffixes: e edges, c channels.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from jaxtyping import Float

from bench.layer.cases import SLOPE, Edges, Pass, Problem

MAX_ERROR = 1e-4
CHUNK = 2**18  # edges whose rows are held at once


class WrongResultError(RuntimeError):
    """A system computes something else: its time would say nothing."""


def check(name: str, found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """Return the largest error of any array, relative to the largest value of its reference.

    Raises:
      WrongResultError: if it is above `MAX_ERROR` or not a number, or an array is missing.
    """
    worst, where = 0.0, ""
    for field, array in expected.items():
        if field not in found or found[field].shape != array.shape:
            got = found[field].shape if field in found else "nothing"
            raise WrongResultError(f"{name}: expected {field} of shape {array.shape}, got {got}")
        error = float(np.abs(found[field] - array).max() / np.abs(array).max())
        if not error <= worst:  # also where it is NaN
            worst, where = error, field
    if not worst <= MAX_ERROR:
        raise WrongResultError(
            f"{name}: expected a relative error up to {MAX_ERROR:g}, got {worst:.2g} in {where}"
        )
    return worst


def expected(problem: Problem) -> dict[Pass, dict[str, np.ndarray]]:
    """Return the outputs, and the gradients of sum(outputs * cotangent), a head at a time."""
    params = {name: array.astype(np.float64) for name, array in problem.params.items()}
    edges = _Edges.of(problem.senders, problem.receivers, len(problem.x))
    x, cotangent = problem.x.astype(np.float64), problem.cotangent.astype(np.float64)
    outputs = np.empty_like(cotangent)
    grads = {name: np.zeros_like(array) for name, array in params.items()} | {"x": 0.0 * x}
    for head in range(problem.layer.heads):
        columns = slice(head * problem.layer.channels, (head + 1) * problem.layer.channels)
        of_head = {name: array[..., head, :] for name, array in params.items()}
        score = _gat if problem.layer.layer == "gat" else _gatv2
        logits, values, pull_back = score(of_head, x, edges)
        outputs[:, columns], *gradients = _attend(logits, values, cotangent[:, columns], edges)
        found = pull_back(*gradients)
        grads["x"] += found.pop("x")
        for name, grad in found.items():
            grads[name][..., head, :] += grad
    if not problem.has_learned_x:
        del grads["x"]
    return {"forward": {"outputs": outputs}, "forward+backward": grads}


def softmax_sum(logits, values, cotangent, edges: Edges) -> dict[Pass, dict[str, np.ndarray]]:
    """Return the sum of values [N, H, C] weighted by the softmax of logits [E, H]: `expected`."""
    known, heads = _Edges.of(*edges), logits.shape[1]
    logits, values, cotangent = (np.asarray(x, np.float64) for x in (logits, values, cotangent))
    found = [_attend(logits[:, h], values[:, h], cotangent[:, h], known) for h in range(heads)]
    outputs, d_logits, d_values = (np.stack(x, axis=1) for x in zip(*found, strict=True))
    gradients = {"logits": d_logits, "values": d_values}
    return {"forward": {"outputs": outputs}, "forward+backward": gradients}


def _attend(logits, values, g, edges: "_Edges"):
    """Return one head's outputs [N, C], and the gradients of logits [E] and values [N, C]."""
    alpha = _softmax(logits, edges)
    size = [len(edges.starts) - 1] * 2
    attention = scipy.sparse.csr_array((alpha, edges.senders, edges.starts), size)
    dot = _edge_dots(g, values, edges)
    total = edges.by_receiver @ (alpha * dot)
    return attention @ values, alpha * (dot - total[edges.receivers]), attention.T @ g


class _Edges(NamedTuple):
    senders: np.ndarray
    receivers: np.ndarray
    starts: np.ndarray  # [N + 1] of every receiver's edges
    by_receiver: Any  # [N, E] incidence: a product with it adds up edges
    by_sender: Any

    @classmethod
    def of(cls, senders, receivers, nodes: int) -> "_Edges":
        starts = np.searchsorted(receivers, np.arange(nodes + 1))
        ones, ids = np.ones(len(senders)), np.arange(len(senders))
        incidence = (
            scipy.sparse.csr_array((ones, (rows, ids)), shape=(nodes, len(senders)))
            for rows in (receivers, senders)
        )
        return cls(senders, receivers, starts, *incidence)


def _softmax(logits, edges: _Edges) -> Float[np.ndarray, " edges"]:
    largest = np.full(len(edges.starts) - 1, -np.inf)
    np.maximum.at(largest, edges.receivers, logits)
    weights = np.exp(logits - largest[edges.receivers])
    return weights / (edges.by_receiver @ weights)[edges.receivers]


def _edge_dots(g, values, edges: _Edges) -> Float[np.ndarray, " edges"]:
    parts = [slice(start, start + CHUNK) for start in range(0, len(edges.senders), CHUNK)]
    products = (g[edges.receivers[part]] * values[edges.senders[part]] for part in parts)
    return np.concatenate([product.sum(axis=1) for product in products])


def _gat(params, x, edges: _Edges):
    """logit_ij = f(a_recv . z_i + a_send . z_j) with z = x W."""
    z = x @ params["kernel"]
    before = (z @ params["a_recv"])[edges.receivers] + (z @ params["a_send"])[edges.senders]
    slopes = np.where(before >= 0, 1.0, SLOPE)

    def pull_back(d_logits, dz):
        d_before = d_logits * slopes
        d_recv, d_send = edges.by_receiver @ d_before, edges.by_sender @ d_before
        dz = dz + np.outer(d_recv, params["a_recv"]) + np.outer(d_send, params["a_send"])
        return {
            "kernel": x.T @ dz,
            "a_recv": d_recv @ z,
            "a_send": d_send @ z,
            "x": dz @ params["kernel"].T,
        }

    return before * slopes, z, pull_back


def _gatv2(params, x, edges: _Edges):
    """logit_ij = a . f(r_i + l_j) with r = x W_recv, l = x W_send, and l the values."""
    left, right = x @ params["kernel_send"], x @ params["kernel_recv"]
    before_ec = right[edges.receivers] + left[edges.senders]
    slopes_ec = np.where(before_ec >= 0, 1.0, SLOPE)

    def pull_back(d_logits, d_values):
        d_before = d_logits[:, None] * slopes_ec * params["a"]
        d_left, d_right = d_values + edges.by_sender @ d_before, edges.by_receiver @ d_before
        return {
            "kernel_send": x.T @ d_left,
            "kernel_recv": x.T @ d_right,
            "a": d_logits @ (before_ec * slopes_ec),
            "x": d_left @ params["kernel_send"].T + d_right @ params["kernel_recv"].T,
        }

    return (before_ec * slopes_ec) @ params["a"], left, pull_back
