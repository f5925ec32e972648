"""Shares of equal twins, entropy and rank against brute force in float64, and their reasons."""

import jax
import numpy as np
import oracle
import oracle_measures
import pytest
from helpers import brute_force_equal, fields, oracle_layer, random_params

from gat_jax import graphs
from gat_jax.diagnosis import looks
from gat_jax.diagnosis.looks import equal_everywhere, look_at, reason_of
from gat_jax.diagnosis.models.networks import observe_network
from gat_jax.layers import GATParams, LayerConfig

# Nodes 0 to 5 send to the others: three twins, two twins, two trivial ones; the last stands alone.
SUPPORTS = {6: (0, 1, 2), 7: (0, 1, 2), 8: (0, 1, 2), 9: (3, 4), 10: (3, 4), 11: (5,), 12: (5,)}
LOOPS = [(node, node) for node in range(6)]
EDGES = np.array(LOOPS + [(j, i) for i, senders in SUPPORTS.items() for j in senders])
NUM_NODES = 14
PAIRS = [(6, 7), (6, 8), (7, 8), (9, 10)]
CONFIG = (LayerConfig(heads=1, channels=3), LayerConfig(layer="gatv2", channels=2, concat=False))


def graph_of(seed):
    nodes = np.random.default_rng(seed).normal(size=(NUM_NODES, 3)).astype(np.float32)
    return graphs.from_edges(*EDGES.T, nodes=nodes)


def params_of(seed):
    rng = np.random.default_rng(seed)
    first, last = (random_params(seed + k, c, 3) for k, c in enumerate(CONFIG))
    # A bias moves logits into a regime in about half of the cases.
    bias = rng.choice([-3.0, 0.0, 3.0]) * np.sign(first.a_send)
    return first._replace(bias=jax.numpy.asarray(bias, np.float32)), last


def brute_force(params, graph):
    """Every layer's entropy, share of equal twins and rank, and the twins equal in both layers."""
    found, equal, outputs = [], np.ones(len(PAIRS), bool), np.zeros(0)
    for k, (layer, config) in enumerate(zip(params, CONFIG, strict=True)):
        if k > 0:
            graph = graph._replace(nodes=oracle.elu(outputs))
        seen = oracle_layer(type(layer), fields(layer), graph, config=config)
        outputs = seen["nodes"]
        entropy = oracle.normalised_entropy(seen["attention"], graph.receivers, NUM_NODES)
        classes = brute_force_equal(outputs)
        is_same = np.array([classes[i] == classes[j] for i, j in PAIRS])
        equal &= is_same
        rank = oracle_measures.effective_rank(outputs)
        found.append((np.nanmean(entropy), len(members(is_same)) / 5, rank))
    return found, members(equal)


def members(is_same):
    return sorted(
        {node for pair, same in zip(PAIRS, is_same, strict=True) if same for node in pair}
    )


def test_a_look_finds_what_brute_force_finds():
    shares = set()
    seen = ()
    for seed in range(30):
        graph, params = graph_of(seed), params_of(seed)
        seen = look_at(observe_network(params, CONFIG, graph), seen)
        expected, members = brute_force(params, graph)
        for look, (entropy, share, rank) in zip(seen, expected, strict=True):
            assert abs(look.entropy - entropy) < 1e-4
            assert abs(look.equal_share - share) < 1e-6, seed
            assert abs(look.rank - rank) < 0.01
            shares.add(share)
        equal = equal_everywhere(seen)
        assert equal.nodes.tolist() == members
        assert equal.num_twins == 5
        classes = equal.partners, equal.nodes
        assert all(tuple(sorted(pair)) in PAIRS for pair in zip(*classes, strict=True))
    assert len(shares) >= 3


def regime(a_send, a_recv, *, slope=1.0):
    """Parameters of a layer of two heads whose logits are a_send n + a_recv c with n, c > 0."""
    kernel = np.full((3, 2, 2), 0.5) * np.array([1.0, slope])
    vectors = (np.outer(a, [1.0, 0.7]) for a in (a_recv, a_send))
    return GATParams(*(jax.numpy.asarray(x, np.float32) for x in (kernel, *vectors)))


@pytest.mark.parametrize(
    ("a_send", "a_recv", "reason"),
    [
        ((1, 1), (1, 1), "every attention logit is positive"),
        ((-1, -1), (-1, -1), "every attention logit is negative"),
        ((1, -1), (1, -1), "every head is in a linear regime, some with positive and some"),
        ((0, 0), (1, -1), "attention is uniform, as all senders have one score"),
        ((1, 3), (0, 0), "their own scores are equal"),
    ],
)
def test_the_reason_is_named(a_send, a_recv, reason):
    graph = graph_of(0)
    graph = graph._replace(nodes=np.abs(graph.nodes) + np.float32(0.1))
    params = regime(a_send, a_recv)
    if reason.startswith("attention is uniform"):  # were partners of one sign, it would be both
        signs = np.where(np.isin(np.arange(NUM_NODES), (7, 8, 10)), -1, 1).astype(np.float32)
        graph = graph._replace(nodes=graph.nodes * signs[:, None])
    config = (LayerConfig(heads=2, use_bias=False),)
    seen = look_at(observe_network((params,), config, graph))
    equal = equal_everywhere(seen)
    assert equal.nodes.tolist() == [6, 7, 8, 9, 10]
    found, is_only = reason_of(seen, equal)
    assert found.startswith(reason)
    assert is_only


def test_a_layer_without_attention_is_named_as_such():
    params = random_params(0, LayerConfig(layer="gcn"), 3)
    seen = look_at(observe_network((params,), (LayerConfig(layer="gcn"),), graph_of(0)))
    assert reason_of(seen, equal_everywhere(seen))[0].startswith("the layer has no attention")


def test_what_is_not_finite_or_of_two_sets_is_said_and_not_measured():
    model = observe_network(params_of(1), CONFIG, graph_of(1))
    first, last = model.layers
    nodes = np.full((NUM_NODES, 3), np.nan, np.float32)
    broken = first._replace(graph=first.graph._replace(nodes=nodes))
    pair = last._replace(graph=last.graph._replace(nodes=(nodes, nodes)))
    seen = look_at(model._replace(layers=(broken, last)))
    assert np.isnan(seen[0].equal_share)
    assert seen[0].note == "numbers that are not finite: not measured"
    assert seen[1].note == ""
    assert equal_everywhere(seen).num_twins == 5  # by the other layer
    seen = look_at(model._replace(layers=(broken, pair)))
    assert seen[1].note == "two sets of nodes: not measured"
    assert equal_everywhere(seen).num_twins == 0


def twins_of(look):
    assert look.equality is not None
    return look.equality.twins


def test_twins_are_found_once_for_the_same_edges(monkeypatch):
    calls = []
    known = looks.twin_classes
    monkeypatch.setattr(looks, "twin_classes", lambda *a, **b: calls.append(1) or known(*a, **b))
    model = observe_network(params_of(2), CONFIG, graph_of(2))
    seen = look_at(model)
    assert len(calls) == 2
    other = observe_network(params_of(3), CONFIG, graph_of(3))
    assert twins_of(look_at(other, seen)[0]) is twins_of(seen[0])
    assert len(calls) == 2
    fewer = graphs.from_edges(*EDGES[:-1].T, nodes=graph_of(2).nodes)
    after = look_at(observe_network(params_of(2), CONFIG, fewer), seen)
    assert len(calls) == 4
    assert len(twins_of(after[0]).twin) == NUM_NODES
