"""Time the softmax over a receiver's edges and its weighted sum alone, against XLA's segments.

    out_i = sum_j alpha_ij z_j,   alpha_ij = softmax_j x_ij

Logits and values are given, as large as those of a layer with 8 heads of 16 channels.
"""

import statistics
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench import common
from bench.layer import cases, reference
from bench.layer.cases import ARXIV, PASSES, Edges, Pass
from bench.layer.systems import OURS, SEGMENTS, compile_program
from gat_jax.graphs import from_edges
from gat_jax.kernels import attention, layouts

HEADS, CHANNELS = 8, 16
CASE = f"{ARXIV}, softmax and sum {HEADS}x{CHANNELS}"


def measure(repeats: int, *, is_small: bool, bandwidth: float) -> list[dict[str, Any]]:
    """Return one entry per pass and system; both are checked against float64 first.

    Args:
      repeats: rounds.
      is_small: on a small graph.
      bandwidth: bytes per second, for the bound.

    Raises:
      WrongResultError: if one of them is wrong.
    """
    edges = cases.arxiv_like_graph(is_small=is_small)
    logits, values, cotangent = _draw(edges)
    expected = reference.softmax_sum(logits, values, cotangent, edges)
    programs = {name: _compile(name, edges, logits, values, cotangent) for name in (OURS, SEGMENTS)}
    errors = {
        (name, of): reference.check(name, _read(of, p[of].run()), expected[of])
        for name, p in programs.items()
        for of in PASSES
    }
    entries = []
    for of in PASSES:
        runs = {name: p[of].run for name, p in programs.items()}
        times = common.interleave(runs, repeats)
        bound = bytes_to_move(edges, of) / bandwidth
        entries += [
            {
                "case": f"{CASE}, {of}",
                "graph": ARXIV,
                "layer": f"softmax and sum {HEADS}x{CHANNELS}",
                "pass": of,
                "nodes": edges[2],
                "edges": len(edges[0]),
                "system": name,
                **({"layout": ": ".join(layouts.choose(len(edges[0])))} if name == OURS else {}),
                **common.timing(times[name], times[OURS], len(edges[0])),
                "max_relative_error": errors[name, of],
                "peak_mib": None,
                "is_same_in_every_run": _is_same(programs[name][of].run),
                "bound_seconds": bound,
                "times_bound": statistics.median(times[name]) / bound,
                **programs[name][of].numbers,
            }
            for name in programs
        ]
    return entries


def bytes_to_move(edges: Edges, of: Pass) -> int:
    """Return the least bytes, counted as `cases.bytes_to_move` does.

    forward   E (D + H + 1)        sender's values, the edge's logits, its id
              N D                  write out
    backward  E (2 D + 3 H + 2)    by receiver: sender's values, logits, dlogits; by sender:
                                   receiver's G, the edge's weights
              N 2 D                read G, write dvalues
    """
    num_edges, nodes, width = len(edges[0]), edges[2], HEADS * CHANNELS
    words = num_edges * (width + HEADS + 1) + nodes * width
    if of == "forward+backward":
        words += num_edges * (2 * width + 3 * HEADS + 2) + nodes * 2 * width
    return 4 * words


def _draw(edges: Edges):
    rng = np.random.default_rng(0)
    node, edge = (edges[2], HEADS, CHANNELS), (len(edges[0]), HEADS)
    return tuple(rng.standard_normal(shape, np.float32) for shape in (edge, node, node))


def _compile(name: str, edges: Edges, logits, values, cotangent):
    """Compile both passes; values are laid out as each system wants them."""
    senders, receivers, num_nodes = edges
    graph = from_edges(senders, receivers, nodes=np.zeros((num_nodes, 1), np.float32))
    layout = layouts.make_layout(graph, "auto" if name == OURS else "segment")
    values = values.swapaxes(1, 2)

    def forward(layout, logits, values):
        return attention.softmax_sum(layout, logits, values).swapaxes(1, 2)

    def both(layout, logits, values, cotangent):
        out, pull_back = jax.vjp(lambda *x: forward(layout, *x), logits, values)
        return out, pull_back(cotangent)

    arguments = jax.device_put((layout, jnp.asarray(logits), jnp.array(values)))
    return {
        "forward": compile_program(forward, arguments),
        "forward+backward": compile_program(both, (*arguments, jax.device_put(cotangent))),
    }


def _read(of: Pass, result) -> dict[str, np.ndarray]:
    if of == "forward":
        return {"outputs": np.asarray(result)}
    _, (d_logits, d_values) = result
    d_values = np.asarray(d_values)
    return {
        "logits": np.asarray(d_logits),
        "values": d_values.swapaxes(1, 2),
    }


def _is_same(run) -> bool:
    first, second = (jax.tree.leaves(run()) for _ in range(2))
    return all(bool(jnp.array_equal(*pair)) for pair in zip(first, second, strict=True))
