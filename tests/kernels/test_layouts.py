"""A layout holds the tables of both ends, is chosen by edges and device, and is made once."""

import gc
import weakref

import chex
import jax
import jraph
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gat_jax.graphs import build as graphs
from gat_jax.kernels import layouts, tables

WIDEST = tables.WIDTHS[-1]
NO_FEATURES = np.zeros((200, 1), np.float32)


def make_graph(senders, receivers, num_nodes: int) -> jraph.GraphsTuple:
    return graphs.from_edges(senders, receivers, nodes=NO_FEATURES[:num_nodes])


def random_graph(seed: int, degrees: list[int]) -> jraph.GraphsTuple:
    """In-degrees as given; many parallel edges, self-loops where they fall."""
    receivers = np.repeat(np.arange(len(degrees)), degrees)
    senders = np.random.default_rng(seed).integers(len(degrees), size=len(receivers))
    return make_graph(senders, receivers, len(degrees))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(degrees=st.lists(st.integers(0, 40), min_size=1, max_size=12), seed=st.integers(0, 1000))
def test_make_layout_lists_the_edges_by_both_ends(degrees, seed):
    graph = random_graph(seed, degrees)
    layout = layouts.make_layout(graph, "bucketed")
    if len(graph.senders) == 0:
        assert layout == layouts.SegmentLayout(0)
        return
    np.testing.assert_array_equal(layout.senders, graph.senders)
    np.testing.assert_array_equal(layout.receivers, graph.receivers)
    by_receiver = tables.make_table(graph.receivers, graph.senders, len(degrees))
    by_sender = tables.make_table(graph.senders, graph.receivers, len(degrees))
    chex.assert_trees_all_equal(layout.by_receiver, by_receiver)
    chex.assert_trees_all_equal(layout.by_sender, by_sender)


@pytest.mark.parametrize("name", ["auto", "segment", "bucketed", "fused"])
def test_make_layout_without_edges_is_the_edge_list(name):
    graph = random_graph(0, [0, 0, 0])
    assert layouts.make_layout(graph, name) == layouts.SegmentLayout(0)


def test_make_layout_of_a_large_star():
    num_leaves = 100_000
    leaves = np.arange(1, num_leaves + 1, dtype=np.int32)
    star = make_graph(none := np.zeros(0, np.int32), none, 1)._replace(
        nodes=np.zeros((num_leaves + 1, 1), np.float32),
        senders=np.concatenate([leaves, np.zeros(num_leaves, np.int32)]),
        receivers=np.concatenate([np.zeros(num_leaves, np.int32), leaves]),
    )
    layout = layouts.make_layout(star)
    for table, others in ((layout.by_receiver, star.senders), (layout.by_sender, star.receivers)):
        of_leaves, of_hub = table.buckets
        np.testing.assert_array_equal(of_leaves.nodes, leaves)
        np.testing.assert_array_equal(of_leaves.others, np.zeros((num_leaves, 4)))
        assert len(of_hub.nodes) == -(-num_leaves // WIDEST)
        is_filled = np.arange(WIDEST) < of_hub.sizes[:, None]
        edges = of_hub.edges[is_filled]
        np.testing.assert_array_equal(others[edges], leaves)
        np.testing.assert_array_equal(of_hub.others[is_filled], leaves)
        assert of_hub.edges.size < num_leaves + WIDEST
        every_edge = np.concatenate([edges, of_leaves.edges[:, 0]])
        np.testing.assert_array_equal(np.sort(every_edge), np.arange(2 * num_leaves))
        place = num_leaves + len(of_hub.nodes)
        np.testing.assert_array_equal(table.places, [place, *range(num_leaves)])


def test_choose_goes_by_edges_and_device():
    edges = layouts.MIN_BUCKETED_EDGES
    for num_edges, device, expected in (
        (0, "cpu", "segment"),
        (0, "gpu", "segment"),
        (edges - 1, "cpu", "segment"),
        (edges, "cpu", "bucketed"),
        (1, "gpu", "fused"),
        (1, "rocm", "bucketed"),
        (1, "tpu", "bucketed"),
    ):
        name, reason = layouts.choose(num_edges, device=device)
        assert name == expected
        assert "\n" not in reason


def test_make_layout_by_name_and_by_itself():
    graph = random_graph(0, [2, 1, 0])
    assert layouts.make_layout(graph, "segment") == layouts.SegmentLayout(3)
    if jax.default_backend() == "cpu":
        assert layouts.make_layout(graph) == layouts.SegmentLayout(3)
    large = random_graph(0, [layouts.MIN_BUCKETED_EDGES, 0, 1])
    assert layouts.make_layout(large) is layouts.make_layout(large, "bucketed")
    fused = layouts.make_layout(large, "fused")
    assert isinstance(fused, layouts.FusedLayout)
    np.testing.assert_array_equal(fused.by_receiver.others, large.senders)  # sorted by receiver
    order = np.argsort(large.senders, kind="stable")
    np.testing.assert_array_equal(fused.by_sender.others, large.receivers[order])


def test_describe_counts_what_a_layout_consists_of():
    graph = random_graph(0, [40, 3, 1, 0])
    few, large = random_graph(0, [2, 1, 0]), random_graph(0, [300, 3, 1, 0])
    text = layouts.describe(layouts.make_layout(few), device="cpu")
    assert text.startswith("segment: the edge list, with scatters\nauto chooses segment: below 50 ")
    text = layouts.describe(layouts.make_layout(few, "segment"), device="tpu")
    assert "auto chooses bucketed: the scatters of a tpu" in text
    assert layouts.describe(layouts.SegmentLayout()) == "segment: the edge list, with scatters"
    lines = layouts.describe(layouts.make_layout(large, "fused"), device="gpu").splitlines()
    assert lines[:2] == [
        "fused: 4 nodes, 304 edges",
        "  by receiver: 4 rows in 5 chunks, at most 2 a row",
    ]
    assert lines[-1].startswith("auto chooses fused: ")
    lines = layouts.describe(layouts.make_layout(graph, "bucketed"), device="rocm").splitlines()
    assert lines[0] == "bucketed: 4 nodes, 44 edges"
    assert lines[1] == "  by receiver, 1.64 slots an edge:"  # 2 x 4 and 2 x 32 slots
    assert lines[2] == "    2 rows of up to 4 slots"
    assert lines[3] == "    1 row of up to 32 slots in 2 chunks, at most 2 a row"
    assert lines[-1].startswith("auto chooses bucketed: ")


@pytest.mark.parametrize("name", ["fused", "bucketed"])
def test_make_layout_prepares_the_same_arrays_once(name):
    graph, other = random_graph(0, [3, 0, 20]), random_graph(0, [3, 0, 20])
    layout = layouts.make_layout(graph, name)
    assert layouts.make_layout(graph, name) is layout
    richer = graph._replace(nodes=np.ones((3, 7), np.float32))
    assert layouts.make_layout(richer, name) is layout
    assert layouts.make_layout(other, name) is not layout
    for field in ("senders", "receivers"):
        mixed = graph._replace(**{field: getattr(other, field)})
        assert layouts.make_layout(mixed, name) is not layout
    more_nodes = graph._replace(nodes=np.ones((4, 1), np.float32))
    table = layouts.make_layout(more_nodes, name)
    assert table.by_receiver.num_nodes == 4


@pytest.mark.parametrize("name", ["fused", "bucketed"])
@pytest.mark.parametrize("is_on_device", [False, True], ids=["host", "device"])
def test_make_layout_keeps_no_dead_arrays(name, is_on_device):
    gc.collect()
    before = len(layouts._CACHE)
    graph = random_graph(0, [3, 0, 20])
    if is_on_device:
        graph = graph._replace(
            senders=jax.numpy.asarray(graph.senders), receivers=jax.numpy.asarray(graph.receivers)
        )
    layout = weakref.ref(layouts.make_layout(graph, name))
    arrays = [weakref.ref(graph.senders), weakref.ref(graph.receivers)]
    assert len(layouts._CACHE) == before + 1
    del graph
    gc.collect()
    assert all(array() is None for array in arrays)
    assert layout() is None
    assert len(layouts._CACHE) == before


def test_make_layout_after_one_of_the_arrays_died():
    # The next array may get the id of the last one, and must not get its layout.
    receivers = np.repeat(np.arange(20, dtype=np.int32), 3)
    graph = make_graph(np.zeros(60, np.int32), receivers, 20)
    for sender in range(20):
        graph = graph._replace(senders=None)  # the last ones die
        graph = graph._replace(senders=np.full(60, sender, np.int32))
        others = layouts.make_layout(graph, "bucketed").by_receiver.buckets[0].others
        np.testing.assert_array_equal(others, np.full((20, 4), sender))


def test_make_layout_refuses_an_unknown_name(unchecked):
    with pytest.raises(ValueError, match=r"^layout: expected one of auto, .*, got 'csr'$"):
        layouts.make_layout(random_graph(0, [1, 2]), "csr")


@pytest.mark.parametrize("field", ["senders", "receivers"])
def test_make_layout_refuses_a_traced_graph(field):
    graph = random_graph(0, [1, 2])

    def layer(ids):
        layouts.make_layout(graph._replace(**{field: ids}), "bucketed")

    with pytest.raises(ValueError, match="layout: expected a layout made before tracing") as error:
        jax.jit(layer)(getattr(graph, field))
    assert "\n" not in str(error.value)


def test_make_layout_under_a_trace_of_the_features_alone():
    graph = random_graph(0, [1, 2])
    layout = layouts.make_layout(graph, "bucketed")

    @jax.jit
    def layer(nodes):
        assert layouts.make_layout(graph._replace(nodes=nodes), "bucketed") is layout
        return nodes

    layer(graph.nodes)


@pytest.mark.parametrize("name", ["segment", "fused", "bucketed"])
def test_check_fits_compares_the_numbers_of_nodes_and_edges(name):
    graph = random_graph(0, [3, 0, 20])
    layout = layouts.make_layout(graph, name)
    layouts.check_fits(layout, graph)
    layouts.check_fits(layout, random_graph(1, [20, 2, 1]))
    more_nodes, more_edges = random_graph(0, [3, 0, 20, 0]), random_graph(0, [3, 1, 20])
    for other in [] if name == "segment" else [more_nodes, more_edges]:
        with pytest.raises(ValueError, match=r"^layout: expected one made for \d+ nodes and \d+"):
            layouts.check_fits(layout, other)


def test_layouts_are_pytrees_of_arrays():
    graph = random_graph(0, [5, 40, 0, 2])
    layout = layouts.make_layout(graph, "bucketed")
    leaves, structure = jax.tree.flatten(layout)
    assert all(isinstance(leaf, np.ndarray) and leaf.dtype == np.int32 for leaf in leaves)
    again = jax.tree.unflatten(structure, leaves)
    chex.assert_trees_all_equal(again, layout)
    assert again.by_receiver.longer is not None
    assert hash(structure) == hash(jax.tree.structure(again))


@pytest.mark.parametrize(
    ("senders", "message"),
    [
        (np.array([0, 5], np.int32), r"senders: expected ids in \[0, 2\), got 5"),
        (np.array([-1, 0], np.int32), r"senders: expected ids in \[0, 2\), got -1"),
        (np.array([0, 2**32], np.int64), r"senders: expected ids in \[0, 2\), got 4294967296"),
        ([0, 1], "senders: expected an array of whole numbers, got list"),
        (np.array([0.0, 1.5]), "senders: expected an array of whole numbers, got float64"),
        (np.array([0], np.int32), r"expected two vectors of one length, got \(1,\) and \(2,\)"),
        (np.zeros((2, 1), np.int32), r"two vectors of one length, got \(2, 1\) and \(2,\)"),
    ],
)
def test_make_layout_refuses_ids_that_a_kernel_would_follow(senders, message):
    graph = make_graph(np.array([0, 1], np.int32), np.array([1, 1], np.int32), 2)
    before = len(layouts._CACHE)
    with pytest.raises(ValueError, match=message):
        layouts.make_layout(graph._replace(senders=senders), "bucketed")
    assert len(layouts._CACHE) == before


@pytest.mark.parametrize("nodes", [None, {"x": np.zeros((3, 1))}], ids=["none", "dict"])
def test_make_layout_refuses_nodes_without_a_number(nodes):
    graph = random_graph(0, [60, 0, 2])
    kind = type(nodes).__name__
    with pytest.raises(ValueError, match=f"nodes: expected an array or SparseFeatures, got {kind}"):
        layouts.make_layout(graph._replace(nodes=nodes))


def test_choose_goes_by_the_default_device(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert "tpu" in layouts.choose(1_000)[1]
    with jax.default_device(jax.devices("cpu")[0]):
        assert "CPU" in layouts.choose(1_000)[1]


def test_check_fits_refuses_what_is_no_layout(unchecked):
    with pytest.raises(ValueError, match="layout: expected a name or one of make_layout, got None"):
        layouts.check_fits(None, random_graph(0, [1, 2]))
