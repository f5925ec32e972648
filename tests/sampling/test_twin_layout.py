import dataclasses

import numpy as np
import pytest

from gat_jax import graphs
from gat_jax.graphs import twins
from gat_jax.sampling import pair_sample, twin_layout
from gat_jax.sampling.twin_layout import make_twin_layout
from gat_jax.studies import tutorial_init


def twins_of(graph):
    return graph, twins.twin_pairs(twins.twin_classes(graph))


TUTORIAL = tutorial_init.tutorial_twins()
RANDOM = twins_of(graphs.random_graph(3, num_nodes=24, num_edges=60, num_features=3, num_twins=10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g, p: (g, twins.TwinPairs(*(x[:0] for x in p))), "pairs: expected at least one"),
        (lambda g, p: (g, p._replace(is_trivial=~p.is_trivial)), "pairs: expected non-trivial"),
        (
            lambda g, p: (g._replace(edges=np.ones((len(g.senders), 1), np.float32)), p),
            "edges: expected no edge features",
        ),
    ],
)
def test_make_twin_layout_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        make_twin_layout(*change(*TUTORIAL))


def test_make_twin_layout_keeps_what_twins_need():
    layout, ids = make_twin_layout(*RANDOM)
    source, pairs = RANDOM
    assert len(layout.pairs) == len(pairs.first)
    for (first, second), i, k in zip(layout.pairs, pairs.first, pairs.second, strict=True):
        assert ids[layout.receivers[first]] == i
        assert ids[layout.receivers[second]] == k
        support = np.sort(source.senders[source.receivers == i])
        for receiver in (first, second):
            assert ids[layout.support(receiver)].tolist() == support.tolist()
        degrees = np.maximum(np.bincount(source.receivers, minlength=24), 1)
        np.testing.assert_allclose(
            layout.gcn_weights_of(first), 1.0 / np.sqrt(degrees[i] * degrees[support])
        )
    degrees = np.bincount(source.receivers)[ids[layout.receivers]]
    np.testing.assert_array_equal(layout.degrees, degrees)
    assert layout.num_edges == layout.degrees.sum()
    assert layout.num_pairs == len(layout.pairs)
    assert not layout.is_by_class
    classes = twins.twin_classes(source).smallest[pairs.first]
    assert layout.num_classes == len(np.unique(classes))


def test_classes_say_what_pairs_say():
    source, pairs = RANDOM
    layout, ids = make_twin_layout(source, pairs)
    same, same_ids = make_twin_layout(source, twins.twin_classes(source))
    assert layout == same
    assert hash(layout) == hash(same)
    np.testing.assert_array_equal(ids, same_ids)


def test_layouts_differ_where_an_array_does_and_no_array_can_change():
    layout, _ = make_twin_layout(*RANDOM)
    for field in ("receivers", "classes", "senders", "gcn_weights", "pairs"):
        changed = getattr(layout, field).copy()
        changed.flat[-1] += 1
        assert dataclasses.replace(layout, **{field: changed}) != layout, field
        with pytest.raises(ValueError, match="read-only"):
            getattr(layout, field)[...] = 0
    assert dataclasses.replace(layout, num_pairs=10**6) != layout
    assert layout != "layout"


def test_pairs_beyond_the_limit_are_a_sample(monkeypatch):
    source, pairs = RANDOM
    classes = twins.twin_classes(source)
    whole, _ = make_twin_layout(source, pairs)
    monkeypatch.setattr(pair_sample, "MAX_COMPARED_PAIRS", 0)
    monkeypatch.setattr(pair_sample, "MAX_PAIRS_PER_TWIN", 0)
    monkeypatch.setattr(twin_layout, "NUM_SAMPLED_PAIRS", 3)
    layout, _ = make_twin_layout(source, classes)
    assert layout.is_by_class
    assert layout.num_pairs == len(pairs.first)
    assert len(layout.pairs) == 3
    assert {*map(tuple, layout.pairs)} < {*map(tuple, whole.pairs)}
    assert make_twin_layout(source, pairs)[0] == whole  # who gives pairs has them compared
