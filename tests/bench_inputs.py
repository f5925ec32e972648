"""Small inputs that the tests of the benchmarks share."""

import numpy as np
from bench.layer import cases
from bench.layer.cases import Problem

NUMBERS = ("median_seconds", "throughput", "ratio_to_peer", "max_relative_error")


def small_problem(layer="GAT 8x16", num_nodes=40, num_edges=300) -> Problem:
    edges = cases.power_law_graph(0, num_nodes, num_edges)
    return cases.make_problem(f"arxiv-like, {layer}", cases.LAYERS[layer], edges)


def write_cora(folder, num_nodes=30):
    """A stand-in: a ring, two of six words in every row, three classes."""
    rng = np.random.default_rng(0)
    ring = np.arange(num_nodes)
    pairs = np.stack([ring, (ring + 1) % num_nodes])
    senders, receivers = np.concatenate([pairs, pairs[::-1]], axis=1).astype(np.int32)
    np.savez(
        folder / "cora.npz",
        num_nodes=np.int32(num_nodes),
        feat_indptr=np.arange(0, 2 * num_nodes + 1, 2, dtype=np.int32),
        feat_indices=(np.repeat(ring, 2) + np.tile([0, 3], num_nodes)).astype(np.int32) % 6,
        feat_data=rng.uniform(0.5, 1, 2 * num_nodes).astype(np.float32),
        feat_shape=np.array([num_nodes, 6], np.int32),
        labels=(ring % 3).astype(np.int32),
        labelled=np.ones(num_nodes, bool),
        train_idx=np.arange(9, dtype=np.int32),
        val_idx=np.arange(9, 12, dtype=np.int32),
        test_idx=np.arange(12, 15, dtype=np.int32),
        senders=senders,
        receivers=receivers,
    )
