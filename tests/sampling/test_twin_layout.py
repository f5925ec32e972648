import numpy as np
import pytest

from gat_jax import graphs
from gat_jax.graphs import twins
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
        assert ids[list(layout.supports[first])].tolist() == support.tolist()
    classes = twins.twin_classes(source).smallest[pairs.first]
    assert layout.num_classes == len(np.unique(classes))
