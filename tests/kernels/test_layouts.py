"""A layout holds the tables of both ends, and is chosen by edges and device."""

import chex
import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gat_jax import graphs
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
        assert layout.name == "segment"
        return
    np.testing.assert_array_equal(layout.senders, graph.senders)
    np.testing.assert_array_equal(layout.receivers, graph.receivers)
    ends = (graph.receivers, graph.senders), (graph.senders, graph.receivers)
    for table, (rows, others) in zip((layout.by_receiver, layout.by_sender), ends, strict=True):
        index = tables.make_degree_buckets(rows, others, len(degrees))
        chex.assert_trees_all_equal(table, tables.EdgeTable(rows, others, index, len(degrees)))


@pytest.mark.parametrize("name", ["auto", "segment", "bucketed", "fused"])
def test_make_layout_without_edges_is_the_edge_list(name):
    graph = random_graph(0, [0, 0, 0])
    assert layouts.make_layout(graph, name).name == "segment"


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
        of_leaves, of_hub = table.index.buckets
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
        np.testing.assert_array_equal(table.index.places, [place, *range(num_leaves)])


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
    assert layouts.make_layout(graph, "segment").name == "segment"
    if jax.default_backend() == "cpu":
        assert layouts.make_layout(graph).name == "segment"
    large = random_graph(0, [layouts.MIN_BUCKETED_EDGES, 0, 1])
    assert layouts.make_layout(large).name == layouts.choose(len(large.senders))[0]
    fused = layouts.make_layout(large, "fused")
    assert fused.name == "fused"
    by_receiver, by_sender = fused.receiver_index, fused.sender_index
    np.testing.assert_array_equal(by_receiver.others, large.senders)  # sorted by receiver
    order = np.argsort(large.senders, kind="stable")
    np.testing.assert_array_equal(by_sender.others, large.receivers[order])


def test_describe_counts_what_a_layout_consists_of():
    graph = random_graph(0, [40, 3, 1, 0])
    few, large = random_graph(0, [2, 1, 0]), random_graph(0, [300, 3, 1, 0])
    text = layouts.describe(layouts.make_layout(few), device="cpu")
    assert text.startswith("segment: the edge list, with scatters\nauto chooses segment: below 50 ")
    text = layouts.describe(layouts.make_layout(few, "segment"), device="tpu")
    assert "auto chooses bucketed: the scatters of a tpu" in text
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


@pytest.mark.parametrize("name", ["segment", "bucketed", "fused"])
def test_make_layout_does_not_see_what_becomes_of_the_arrays(name):
    graph = random_graph(0, [3, 0, 20])
    layout = layouts.make_layout(graph, name)
    before = [np.array(leaf) for leaf in jax.tree.leaves(layout)]
    graph.senders[:] = 1
    graph.receivers[:] = 2
    chex.assert_trees_all_equal(jax.tree.leaves(layout), before)
    assert not np.array_equal(layouts.make_layout(graph, name).receivers, layout.receivers)


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

    @jax.jit
    def layer(nodes):
        assert layouts.make_layout(graph._replace(nodes=nodes), "bucketed").num_edges == 3
        return nodes

    layer(graph.nodes)


def test_the_edge_list_of_a_traced_graph():
    graph = random_graph(0, [1, 2])
    edges = jax.jit(layouts.segment_layout)(graph)
    assert (edges.name, edges.num_receivers, edges.num_edges) == ("segment", 2, 3)
    chex.assert_trees_all_equal(edges, layouts.make_layout(graph, "segment"))


@pytest.mark.parametrize("name", ["segment", "fused", "bucketed"])
def test_check_layout_compares_nodes_and_edges(name):
    graph = random_graph(0, [3, 0, 20])
    layout = layouts.make_layout(graph, name)
    layouts.check_layout(layout, graph)
    layouts.check_layout(layout, graph._replace(senders=jnp.asarray(graph.senders)))
    with pytest.raises(ValueError, match=r"^layout: expected one made of this graph's edges"):
        layouts.check_layout(layout, random_graph(1, [20, 2, 1]))
    more_nodes, more_edges = random_graph(0, [3, 0, 20, 0]), random_graph(0, [3, 1, 20])
    for other in (more_nodes, more_edges):
        with pytest.raises(ValueError, match=r"^layout: expected one made for \d+ nodes and \d+"):
            layouts.check_layout(layout, other)


@pytest.mark.parametrize("name", ["segment", "bucketed", "fused"])
def test_a_layout_of_ids_is_that_of_their_graph(name):
    graph = random_graph(0, [3, 0, 20])
    ends = graph.senders, graph.receivers
    chex.assert_trees_all_equal(
        layouts.layout_of_edges(*ends, 3, name), layouts.make_layout(graph, name)
    )
    two_sets = layouts.layout_of_edges(*ends, 4, name, num_senders=3)
    assert (two_sets.num_receivers, two_sets.num_senders) == (4, 3)
    assert (two_sets.by_receiver.num_rows, two_sets.by_sender.num_rows) == (4, 3)


def test_layout_of_edges_refuses_ids_and_numbers_that_make_no_sense(unchecked):
    ends = np.array([0, 2]), np.array([1, 1])
    for arguments, message in (
        ((*ends, 2), r"senders: expected ids in \[0, 2\), got 2"),
        ((*ends, 2.5), "num_nodes: expected a whole number, got 2.5"),
        ((*ends, -1), "num_nodes: expected at least 0, got -1"),
        ((ends[0][:1], ends[1], 3), r"senders, receivers: expected two vectors of one length"),
        ((*ends, 3, "csr"), "layout: expected one of auto, segment, bucketed, fused, got 'csr'"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            layouts.layout_of_edges(*arguments)
    with pytest.raises(ValueError, match=r"^senders: expected ids in \[0, 1\), got 2"):
        layouts.layout_of_edges(*ends, 3, num_senders=1)


def test_layouts_are_pytrees_of_arrays():
    graph = random_graph(0, [5, 40, 0, 2])
    layout = layouts.make_layout(graph, "bucketed")
    leaves, structure = jax.tree.flatten(layout)
    assert all(isinstance(leaf, np.ndarray) and leaf.dtype == np.int32 for leaf in leaves)
    again = jax.tree.unflatten(structure, leaves)
    chex.assert_trees_all_equal(again, layout)
    assert again.receiver_index.longer is not None
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
    for name in ("segment", "bucketed", "fused"):
        with pytest.raises(ValueError, match=message):
            layouts.make_layout(graph._replace(senders=senders), name)


@pytest.mark.parametrize("nodes", [None, {"x": np.zeros((3, 1))}], ids=["none", "dict"])
def test_make_layout_refuses_nodes_without_a_number(nodes):
    graph = random_graph(0, [60, 0, 2])
    kind = type(nodes).__name__
    with pytest.raises(
        ValueError,
        match=f"nodes: expected an array of NumPy or JAX, SparseFeatures, .*, got {kind}",
    ):
        layouts.make_layout(graph._replace(nodes=nodes))


def test_choose_goes_by_the_default_device(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert "tpu" in layouts.choose(1_000)[1]
    with jax.default_device(jax.devices("cpu")[0]):
        assert "CPU" in layouts.choose(1_000)[1]


def test_check_layout_refuses_what_is_no_layout(unchecked):
    with pytest.raises(ValueError, match="layout: expected one of make_layout, or None, got str"):
        layouts.check_layout("bucketed", random_graph(0, [1, 2]))
