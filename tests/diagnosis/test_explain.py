"""Which layer is to blame for equal nodes, and the reason, where it is known by construction."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gat_jax import graphs
from gat_jax.diagnosis.diagnose import from_observed
from gat_jax.diagnosis.explain import REASONS, reason_of_pair
from gat_jax.diagnosis.models.from_weights import observe_weights
from gat_jax.diagnosis.models.observed import ImportedLayer
from gat_jax.layers import GATParams, GCNParams, LayerConfig, init_layer
from gat_jax.symmetry import CAUSES


def draw(name, config, width=1):
    return ImportedLayer(name, "a system", config, init_layer(jax.random.key(0), config, width))


def path(num_nodes):
    """Nodes in a row, all with the same feature."""
    left = np.arange(num_nodes - 1)
    ends = np.concatenate([left, left + 1]), np.concatenate([left + 1, left])
    return graphs.from_edges(*ends, nodes=np.ones((num_nodes, 1), np.float32))


def explained(model):
    merged = from_observed(model, num_fresh=0).merged
    found = zip(merged.layers.tolist(), merged.reasons, strict=True)
    return dict(zip(merged.nodes.tolist(), found, strict=True))


def test_equal_features_everywhere_are_no_fault_of_what_lies_between():
    """Only numbers of neighbours differ, and no average shows them."""
    config = LayerConfig(layer="gat", channels=1)
    model = observe_weights([draw("a", config), draw("b", config)], path(4))
    assert explained(model) == dict.fromkeys(range(4), (0, "trivial"))
    assert "4 because in a they receive from one sender" in from_observed(model, num_fresh=0).answer


def test_numbers_of_equal_senders_cancel():
    # 4 receives from 0 and 1, and 5 from two of each kind.
    nodes = np.array([[1.0], [2.0], [1.0], [2.0], [3.0], [3.0]])
    graph = graphs.from_edges([0, 1, 0, 1, 2, 3], [4, 4, 5, 5, 5, 5], nodes=nodes)
    model = observe_weights([draw("a", LayerConfig(layer="gat", channels=1))], graph)
    found = explained(model)
    assert found[4] == found[5] == (0, "counts")


def test_what_differs_farther_away_than_layers_reach_is_no_layers_fault():
    config = LayerConfig(layer="gcn", channels=1, gcn_normalization="symmetric")
    found = explained(observe_weights([draw("a", config)], path(8)))
    assert found[2] == found[3] == (-1, "depth")  # 0 and 7 are two steps away from 2, and not 3
    assert len(found) == 4


def test_a_layer_is_not_to_blame_for_nodes_that_a_later_one_separated():
    nodes = np.array([[1.0], [2.0], [3.0]], np.float32)
    graph = graphs.from_edges(np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3), nodes=nodes)
    config: Any = LayerConfig(layer="gat", channels=1, use_bias=False)
    ones = GATParams(*(jnp.ones((1,) * ndim) for ndim in (3, 2, 2)))
    merges = ImportedLayer("merges", "a system", config, ones)
    separates = draw("separates", LayerConfig(layer="gat", channels=1, use_residual=True))
    first, second = (observe_weights([layer], graph) for layer in (merges, separates))
    assert set(explained(first).values()) == {(0, "positive")}
    # The second layer reads the features again, and what follows it makes all equal.
    both = first._replace(layers=first.layers + second.layers, outputs=np.zeros((3, 1), np.float32))
    assert set(explained(both).values()) == {(-1, "between")}


def shifting(name, features, ends):
    """A layer that adds 8 to what each node receives, where float32 has no digits for 1e-7."""
    config = LayerConfig(
        layer="gcn", channels=1, use_bias=False, use_output_bias=True, gcn_normalization="mean"
    )
    params = GCNParams(kernel=jnp.ones((1, 1, 1)), output_bias=8 * jnp.ones(1))
    graph = graphs.from_edges(*ends, nodes=np.array(features, np.float32)[:, None])
    return observe_weights([ImportedLayer(name, "a system", config, params)], graph)


def test_what_rounding_makes_equal_is_no_fault_of_what_lies_between():
    ends = [0, 1, 2, 0, 1], [0, 1, 2, 3, 4]
    first = shifting("first", [0.0, 1e-7, 5.0, 6.0, 7.0], ends)
    assert explained(first) == dict.fromkeys([0, 1, 3, 4], (0, "trivial"))
    # What follows sees 0 and 1 with the same numbers, and 3 and 4, which receive from them.
    second = shifting("second", first.layers[0].outputs[:, 0], (list(range(5)), list(range(5))))
    both = first._replace(layers=first.layers + second.layers, outputs=second.outputs)
    found = explained(both)
    by_rounding = dict.fromkeys([0, 1, 4], (0, "rounding"))
    assert found == by_rounding | {3: (0, "trivial")}  # 0 sends to it, which it is equal to


def test_nodes_that_receive_from_such_nodes_are_equal_by_rounding_too():
    alone = list(range(5)), list(range(5))
    first = shifting("first", [0.0, 1e-7, 5.0, 6.0, 7.0], alone)
    sent = [0, 1, 2, 0, 1], [0, 1, 2, 3, 4]
    second = shifting("second", first.layers[0].outputs[:, 0], sent)
    third = shifting("third", second.layers[0].outputs[:, 0], alone)
    model = first._replace(layers=first.layers + second.layers + third.layers, outputs=None)
    model = model._replace(graph=graphs.from_edges(*sent, nodes=first.graph.nodes))
    found = explained(model)
    assert found[0] == found[1] == (0, "rounding")
    assert found[3] == (1, "trivial")
    assert found[4] == (1, "rounding")
    diagnosis = from_observed(model, num_fresh=5)
    assert "agree to the precision of float32" in diagnosis.answer
    assert diagnosis.remedies[0].separated <= 1 / 4  # of 3, but not of the others


@pytest.mark.parametrize(
    ("causes", "reason"),
    [
        (["channelwise"], "channelwise"),
        (["channelwise", "positive"], "several"),
        (["positive", "negative"], "regimes"),
        (["uniform", "uniform"], "uniform"),
    ],
)
def test_reason_of_pair(causes, reason):
    assert reason_of_pair(np.array([CAUSES.index(cause) for cause in causes])) == reason


def test_the_page_has_every_reason():
    page = (Path(__file__).parents[2] / "docs" / "diagnosis.md").read_text(encoding="utf-8")
    listed = page.split("## The reasons")[1].split("## ")[0]
    assert not {reason for reason in REASONS if f"`{reason}`" not in listed}
