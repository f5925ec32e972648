"""Diagnoses against comparing all pairs in float64, and what is said of them."""

import inspect
import json

import jax
import numpy as np
import oracle_diagnosis as oracle
import pytest

from gat_jax import graphs
from gat_jax.diagnosis import diagnose
from gat_jax.diagnosis.diagnose import from_observed
from gat_jax.diagnosis.models.from_weights import observe_weights
from gat_jax.diagnosis.models.observed import ImportedLayer
from gat_jax.diagnosis.results import classes_of
from gat_jax.layers import LayerConfig, LayerSettings, init_layer

NUM_NODES, NUM_EDGES, NUM_FEATURES = 8, 16, 2
KINDS = {
    "gat": LayerConfig(layer="gat", heads=2, channels=2),
    "average": LayerConfig(layer="gat", heads=2, channels=3, concat=False, use_residual=True),
    "gatv2": LayerConfig(layer="gatv2", heads=2, channels=2),
    "shared": LayerConfig(layer="gatv2", heads=2, channels=2, share_weights=True),
    "edges": LayerConfig(layer="gat", heads=2, channels=2, num_edge_features=1),
    "edges v2": LayerConfig(layer="gatv2", heads=2, channels=2, num_edge_features=1),
    "gcn": LayerConfig(layer="gcn", channels=3, use_bias=False, gcn_normalization="symmetric"),
}


def draw_layers(kind, seed, *, loops=False, depth=2):
    config, width, layers = KINDS[kind], NUM_FEATURES, []
    for k in range(depth):
        key = jax.random.key(100 * seed + k)
        params = init_layer(key, config, width)
        settings = LayerSettings(slope=0.2)
        layers.append(ImportedLayer(f"conv{k + 1}", "test", config, params, settings, loops))
        width = config.num_outputs
    return tuple(layers)


def draw_graph(seed, num_nodes=NUM_NODES, num_edges=NUM_EDGES, has_features=False):
    """A graph without self-loops in which twins, trivial ones and equal features are frequent."""
    rng = np.random.default_rng(seed)
    ends = [(s, r) for s in range(num_nodes) for r in range(num_nodes) if s != r]
    favourites = set(rng.choice(num_nodes, 3, replace=False).tolist())
    likely = np.array([4.0 if s in favourites else 4.0 / num_nodes for s, _ in ends])
    chosen = rng.choice(len(ends), num_edges, replace=False, p=likely / likely.sum())
    senders, receivers = np.array([ends[k] for k in chosen]).T
    # Few different rows, of numbers that add up to nothing by accident.
    x = rng.normal(size=(4, NUM_FEATURES))[rng.integers(0, 4, num_nodes)].astype(np.float32)
    features = rng.integers(1, 3, (num_edges, 1)).astype(np.float32) if has_features else None
    return graphs.from_edges(senders, receivers, nodes=x, edges=features)


def edges_of(graph, *, loops):
    edges = list(zip(graph.senders.tolist(), graph.receivers.tolist(), strict=True))
    return edges + [(i, i) for i in range(len(graph.nodes))] * loops


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


CASES = [
    (kind, loops) for kind in KINDS for loops in (False, True) if not ("edges" in kind and loops)
]


@pytest.mark.parametrize(("kind", "loops"), CASES)
@pytest.mark.parametrize("seed", range(17))
def test_from_observed_agrees_with_all_pairs(kind, loops, seed):
    check_all(draw_graph(seed, has_features="edges" in kind), kind, loops, seed)


@pytest.mark.parametrize("kind", ["gat", "gatv2"])
def test_from_observed_agrees_with_all_pairs_of_300_nodes(kind):
    check_all(draw_graph(0, 300, 700), kind, False, 0)


def check_all(graph, kind, loops, seed):
    layers, num_nodes = draw_layers(kind, seed, loops=loops), len(graph.nodes)
    labels = np.random.default_rng(seed).integers(0, 3, num_nodes)
    found = from_observed(observe_weights(layers, graph), labels=labels, num_fresh=0)

    edges, x = edges_of(graph, loops=loops), np.asarray(graph.nodes, np.float64)
    features = None if graph.edges is None else np.asarray(graph.edges, np.float64)
    for layer, result in zip(layers, found.layers, strict=True):
        config = layer.config
        values, parts = oracle.layer_of(
            config.layer, layer.params._asdict(), x, edges, 0.2, config.concat, features
        )
        twins = oracle.twins_of(edges, num_nodes, features)
        np.testing.assert_array_equal(result.inputs, oracle.classes_by_values(x))
        np.testing.assert_array_equal(result.twins, twins)
        np.testing.assert_array_equal(result.outputs, oracle.classes_by_values(values))
        if parts is not None:
            check_causes(layer, result, parts, edges, twins, features)
        x = elu(values)
    np.testing.assert_array_equal(found.final, oracle.classes_by_values(values))
    plain = edges_of(graph, loops=False)
    colours = oracle.colours_of(np.asarray(graph.nodes), plain, features)
    np.testing.assert_array_equal(found.colours, colours)
    assert found.loss_floor == pytest.approx(oracle.floor_of(labels.tolist(), found.final))
    assert found.unavoidable_loss_floor == pytest.approx(oracle.floor_of(labels.tolist(), colours))
    assert found.unavoidable_loss_floor <= found.loss_floor + 1e-12


def edge_parts(layer, features):
    """The edges' own parts of the logits [E, H, D]; None without edge features."""
    if features is None:
        return None
    params = {
        k: np.asarray(v, np.float64) for k, v in layer.params._asdict().items() if v is not None
    }
    parts = np.einsum("ef,fhc->ehc", features, params["edge_kernel"])
    if layer.config.layer == "gat":
        return np.einsum("ehc,hc->eh", parts, params["a_edge"])[..., None]
    return parts


def check_causes(layer, result, parts, edges, twins, features):
    """Every listed pair of twins has the causes of the definitions; no small class is missing."""
    listed = set()
    pairs = result.pairs
    extra = edge_parts(layer, features)
    for i, k, is_equal, causes in zip(
        pairs.first, pairs.second, pairs.is_equal, pairs.primary(), strict=True
    ):
        assert is_equal == (result.outputs[i] == result.outputs[k])
        if twins[i] != twins[k]:
            continue
        listed.add((i, k))
        places = [place for place, (_, r) in enumerate(edges) if r == i]
        senders = [edges[place][0] for place in places]
        for head, cause in enumerate(causes):
            own = None if extra is None else extra[places, head]
            expected = oracle.cause_of(parts, senders, i, k, head, own)
            # Where all senders are alike, outputs are equal whatever attention does.
            if not (cause == "rounding" and is_equal and expected == "separated"):
                assert cause == expected, (i, k, head)
    sizes = np.bincount(result.candidates, minlength=len(twins))[result.candidates]
    small = np.flatnonzero(sizes <= 16)
    wanted = {(i, k) for i in small for k in small if i < k and twins[i] == twins[k]}
    assert listed >= wanted


def test_the_random_graphs_hold_what_they_are_to_test():
    """Merged twins, separated ones, trivial ones and merged senders: none is tested in vain."""
    seen = set()
    for seed in range(8):
        found = from_observed(
            observe_weights(draw_layers("gat", seed), draw_graph(seed)), num_fresh=0
        )
        seen |= set(found.merged.reasons)
        for layer in found.layers:
            seen |= {cause for row in layer.pairs.primary() for cause in row}
            seen |= {"merged senders"} if (layer.candidates < layer.twins).any() else set()
        seen |= {"inseparable"} if classes_of(found.colours) else set()
    assert seen >= {"positive", "negative", "separated", "trivial", "merged senders", "inseparable"}


def star(num_leaves, num_hubs=2):
    """Leaves that all receive from the same hubs, which receive from one leaf."""
    leaves = np.arange(num_hubs, num_hubs + num_leaves)
    senders = np.concatenate([np.tile(np.arange(num_hubs), num_leaves), leaves[:1]])
    receivers = np.concatenate([np.repeat(leaves, num_hubs), [0]])
    x = np.random.default_rng(0).normal(size=(num_hubs + num_leaves, NUM_FEATURES))
    return graphs.from_edges(senders, receivers, nodes=x.astype(np.float32))


def test_large_classes_are_not_listed_as_pairs():
    graph = star(10_000)
    found = from_observed(observe_weights(draw_layers("gat", 0, depth=1), graph), num_fresh=0)
    (layer,) = found.layers
    assert len(layer.pairs.first) == 0
    counted = sum(counts[0] for counts in layer.cause_counts.values())
    assert counted == pytest.approx(10_000 * 9_999 / 2, rel=1e-6)
    assert len(json.dumps(found.to_dict(), allow_nan=False)) < 2e6
    assert max(map(len, classes_of(found.final)), default=0) > 1


def test_answer_names_numbers_and_reasons():
    # Positive features and parameters: every logit is positive, so that the twins 2 and 3 merge.
    graph = graphs.from_edges(
        [0, 1, 0, 1, 2, 3], [2, 2, 3, 3, 0, 1], nodes=np.array([[1.0], [2.0], [3.0], [5.0]])
    )
    config = LayerConfig(channels=1, use_bias=False)
    params = init_layer(jax.random.key(0), config, 1)
    ones = params._replace(**{k: 0 * v + 1 for k, v in params._asdict().items() if v is not None})
    found = from_observed(
        observe_weights([ImportedLayer("conv1", "test", config, ones)], graph),
        labels=[0, 0, 0, 1],
        num_fresh=0,
    )
    assert found.answer == (
        "2 of 4 nodes cannot be told apart after conv1 from at least one other node: 2 because in "
        "conv1 every attention logit is positive."
    )
    assert str(found).splitlines()[0] == found.answer
    assert found.loss_floor == pytest.approx(2 * np.log(2) / 4)
    assert found.unavoidable_loss_floor == 0.0
    statuses = {check.name: check.status for check in found.checks}
    assert statuses["merged_nodes"] == "fail"
    assert statuses["loss_floor"] == "fail"
    assert statuses["conv1.merged"] == "fail"
    assert statuses["inseparable_nodes"] == "pass"
    as_json = found.to_dict()
    assert as_json["twin_classes"] == [[2, 3]]
    assert as_json["layers"][0]["merged_classes"] == [[2, 3]]
    [pair] = [p for p in as_json["layers"][0]["pairs"] if p["nodes"] == [2, 3]]
    assert pair["equal"]
    assert pair["causes"] == ["positive"]
    assert list(found.frame().query("first == 2")["head_0"]) == ["positive"]


def test_a_model_that_is_given_more_than_features_is_said_to_be():
    graph = graphs.from_edges([0, 1, 2, 3], [1, 0, 3, 2], nodes=np.ones((4, 2)))
    observed = observe_weights(draw_layers("gat", 0, depth=1), graph)
    assert from_observed(observed, num_fresh=0).colours.tolist() == [0, 0, 0, 0]
    told = observed._replace(outputs=np.arange(4.0, dtype=np.float32)[:, None])
    found = from_observed(told, num_fresh=0)
    assert found.colours.tolist() == [0, 1, 2, 3]
    assert "it is given something else" in found.notes[-1]


def test_names_stand_for_nodes():
    graph = star(3)
    observed = observe_weights(draw_layers("gat", 1, depth=1), graph)
    found = from_observed(observed, node_names=list("abcde"), num_fresh=0)
    assert found.to_dict()["twin_classes"] == [["c", "d", "e"]]
    assert set(found.frame()["first"]) <= set("abcde")


def test_before_says_what_training_moved():
    graph = draw_graph(3)
    early, late = (observe_weights(draw_layers("gat", seed), graph) for seed in (4, 5))
    found = from_observed(late, before=early, num_fresh=0)
    assert found.before is not None
    assert "Before, " in found.summary()
    assert found.to_dict()["before"]["num_nodes"] == NUM_NODES


def test_before_has_names_and_floors_too():
    model = observe_weights(draw_layers("gat", 1, depth=1), star(3))
    found = from_observed(
        model, before=model, labels=[0, 0, 0, 1, 1], node_names=list("abcde"), num_fresh=0
    )
    before = found.to_dict()["before"]
    assert before["twin_classes"] == [["c", "d", "e"]]
    assert before["loss_floor"] == found.loss_floor is not None


def test_twins_with_self_loops_have_the_same_edge_features():
    """Both receive from each other and themselves, but by edges that differ."""
    graph = graphs.from_edges([0, 1], [1, 0], nodes=np.eye(2), edges=np.array([[1.0], [2.0]]))
    config = LayerConfig(layer="gat", channels=1, num_edge_features=1)
    layer = ImportedLayer("conv", "test", config, init_layer(jax.random.key(0), config, 2))
    found = from_observed(observe_weights([layer], graph), num_fresh=0)
    assert found.to_dict()["twin_classes_with_self_loops"] == []
    plain = observe_weights(draw_layers("gat", 0, depth=1), graph._replace(edges=None))
    found = from_observed(plain, num_fresh=0)
    assert found.to_dict()["twin_classes_with_self_loops"] == [[0, 1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": [0, 1]}, r"labels: expected shape \[8\], got \[2\]"),
        ({"labels": [-1] * 8}, "labels: expected at least one label"),
        ({"labels": [0.5] * 8}, "labels: expected whole numbers"),
        ({"node_names": ["a"]}, "node_names: expected 8 names, got 1"),
    ],
)
def test_from_observed_refuses(options, message):
    observed = observe_weights(draw_layers("gat", 0, depth=1), draw_graph(0))
    with pytest.raises(ValueError, match=message):
        from_observed(observed, num_fresh=0, **options)


@pytest.mark.parametrize(
    "diagnosed",
    [diagnose.from_pyg, diagnose.from_flax, diagnose.from_network, diagnose.from_weights],
)
def test_labels_are_refused_before_the_model_runs(diagnosed):
    required = [None] * (3 if diagnosed in (diagnose.from_flax, diagnose.from_network) else 2)
    with pytest.raises(ValueError, match="labels: expected at least one label >= 0, got none"):
        inspect.unwrap(diagnosed)(*required, labels=[-1, -1])


def test_fresh_chances_are_those_of_the_sampler():
    """Against the package's sampling engine, which draws other numbers of the same distribution."""
    from gat_jax.sampling import Cell, sample

    graph = star(3)
    layer = draw_layers("gat", 1, depth=1)[0]
    found = from_observed(observe_weights([layer], graph), num_fresh=400)
    fresh = found.layers[0].fresh
    cell = Cell(graph="star", layer=layer.config)
    counts = sample(cell, graph, graphs.twin_classes(graph), num_inits=50_000, seed=0)
    expected = float(np.sum(counts.collisions)) / (50_000 * 3)
    assert fresh.interval[0] - 0.02 <= expected <= fresh.interval[1] + 0.02
