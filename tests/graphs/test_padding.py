"""Several graphs in one tuple: padding, batches, and what each function of graphs makes of them."""

import jax.numpy as jnp
import jraph
import networkx as nx
import numpy as np
import pytest
from helpers import edge_rows, messy_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from gat_jax import graphs

explore = settings(max_examples=50, deadline=None, derandomize=True)


def one_graph(*, num_edge_features=0):
    """Four nodes: 1 and 2 are twins of 0, and 3 is isolated; the edge 0 -> 1 stands twice."""
    senders, receivers = [0, 0, 1, 2, 0, 0], [1, 1, 0, 0, 2, 2]
    edges = np.ones((6, num_edge_features)) if num_edge_features else None
    return graphs.from_edges(senders, receivers, nodes=np.arange(1.0, 5.0)[:, None], edges=edges)


GRAPHS = {
    "plain": one_graph(),
    "edge features": one_graph(num_edge_features=2),
    "one node": graphs.from_edges([], [], nodes=[[1.0]]),
    "isolated nodes": graphs.from_edges([], [], nodes=[[1.0], [1.0], [2.0]]),
    "messy": messy_graph(0),
}
LOOPLESS = {name: graph for name, graph in GRAPHS.items() if name != "messy"}


def padded(graph, num_nodes=3, num_edges=2):
    return graphs.pad(
        graph, num_nodes=len(graph.nodes) + num_nodes, num_edges=len(graph.senders) + num_edges
    )


# --- padding --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_nodes", "num_edges"), [(9, 16), (20, 50)])
def test_pad_appends_a_graph_of_its_own(num_nodes, num_edges):
    graph = messy_graph(1, num_edge_features=2)
    found = graphs.pad(graph, num_nodes=num_nodes, num_edges=num_edges)
    node_mask, edge_mask = graphs.padding_masks(found)
    assert node_mask.tolist() == [True] * 8 + [False] * (num_nodes - 8)
    assert edge_mask.tolist() == [True] * 16 + [False] * (num_edges - 16)
    np.testing.assert_array_equal(edge_rows(found)[:16], edge_rows(graph))
    np.testing.assert_array_equal(found.nodes[:8], graph.nodes)
    assert (np.concatenate([found.senders[16:], found.receivers[16:]]) >= 8).all()
    graphs.validate(found)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_nodes": 8, "num_edges": 16}, "num_nodes: expected at least 9, got 8"),
        ({"num_nodes": 9, "num_edges": 15}, "num_edges: expected at least 16, got 15"),
        ({"num_nodes": "9", "num_edges": 16}, "num_nodes: expected a whole number, got '9'"),
        ({"num_nodes": 9, "num_edges": 16.0}, "num_edges: expected a whole number, got 16.0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_pad_refuses_what_does_not_fit(sizes, message):
    with pytest.raises(ValueError, match=message):
        graphs.pad(messy_graph(0), **sizes)


def test_pad_refuses_a_padded_graph():
    with pytest.raises(ValueError, match="graph: expected one without padding"):
        graphs.pad(padded(one_graph()), num_nodes=20, num_edges=20)


@pytest.mark.parametrize("name", GRAPHS)
def test_everything_is_real_without_padding(name):
    graph = GRAPHS[name]
    found = [graph]
    if len(graph.senders):
        found += [jraph.batch_np([graph] * 2), jraph.batch([graph] * 3)]
    for given_graph in found:
        for mask in graphs.padding_masks(given_graph):
            assert mask.all()


@explore
@given(
    st.lists(st.sampled_from(["plain", "one node", "isolated nodes"]), min_size=1, max_size=3),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(0, 2),
)
def test_padding_is_told_apart_by_its_edges_and_zeros(names, num_nodes, num_edges, num_empty):
    # A graph with edges last: one without looks like padding.
    batch = jraph.batch_np([*(GRAPHS[name] for name in names), one_graph()])
    total = len(batch.nodes), len(batch.senders)
    found = jraph.pad_with_graphs(
        batch,
        n_node=total[0] + num_nodes,
        n_edge=total[1] + num_edges,
        n_graph=len(names) + 2 + num_empty,
    )
    changed = found.nodes + 1.0
    for nodes in (found.nodes, jnp.asarray(found.nodes), *([changed] if num_edges > 1 else [])):
        masks = graphs.padding_masks(found._replace(nodes=nodes))
        assert [mask.sum() for mask in masks] == list(total)
        assert [len(mask) for mask in masks] == [len(found.nodes), len(found.senders)]
        np.testing.assert_array_equal(masks[0], jraph.get_node_padding_mask(found))
        np.testing.assert_array_equal(masks[1], jraph.get_edge_padding_mask(found))
    if num_edges <= 1:
        with pytest.raises(ValueError, match="graph: expected zeros as features of padding"):
            graphs.padding_masks(found._replace(nodes=changed))


def test_masks_need_no_features():
    for graph in (one_graph(), padded(one_graph())):
        expected = graphs.padding_masks(graph)
        for found, mask in zip(
            graphs.padding_masks(graph._replace(nodes=None)), expected, strict=True
        ):
            np.testing.assert_array_equal(found, mask)


# --- functions of graphs, whatever they are given -------------------------------------------------


FUNCTIONS_OF_ONE_GRAPH = {
    "twin_classes": graphs.twin_classes,
    "inseparable_classes": graphs.inseparable_classes,
    "output_classes": lambda graph: graphs.output_classes(
        graph, np.arange(len(getattr(graph, "nodes", ())))
    ),
}


def by_node(result):
    """The answer of a function of one graph as one row for each node."""
    if isinstance(result, np.ndarray):
        return result[:, None]
    return np.stack(result, axis=1)


@pytest.mark.parametrize("function", FUNCTIONS_OF_ONE_GRAPH)
@pytest.mark.parametrize("name", GRAPHS)
def test_padding_nodes_are_classes_of_their_own(function, name):
    graph, classify = GRAPHS[name], FUNCTIONS_OF_ONE_GRAPH[function]
    without, found = by_node(classify(graph)), by_node(classify(padded(graph)))
    num_nodes = len(graph.nodes)
    np.testing.assert_array_equal(found[:num_nodes], without)
    assert found[num_nodes:, 0].tolist() == [num_nodes, num_nodes + 1, num_nodes + 2]
    classes = graphs.twin_classes(padded(graph))
    assert graphs.count_twins(classes) == graphs.count_twins(graphs.twin_classes(graph))
    pairs = graphs.twin_pairs(classes, include_trivial=True)
    assert np.concatenate([pairs.first, pairs.second]).max(initial=0) < num_nodes


def test_a_padding_node_is_not_the_equal_of_a_node_with_its_features():
    graph = graphs.from_edges([0, 1], [2, 3], nodes=np.zeros((4, 1)))
    found = graphs.inseparable_classes(padded(graph))
    assert found.tolist() == [0, 0, 2, 2, 4, 5, 6]


@pytest.mark.parametrize("function", FUNCTIONS_OF_ONE_GRAPH)
def test_functions_of_one_graph_refuse_a_batch(function):
    batch = jraph.batch_np([one_graph(), one_graph()])
    for graph in (batch, padded(batch), jraph.batch([one_graph()] * 2)):
        with pytest.raises(ValueError, match="graph: expected one graph, got a batch of 2"):
            FUNCTIONS_OF_ONE_GRAPH[function](graph)


@pytest.mark.parametrize("name", LOOPLESS)
def test_add_self_loops_keeps_graphs_apart(name):
    graph = LOOPLESS[name]
    row = None if graph.edges is None else np.zeros(2)
    looped = graphs.add_self_loops(graph, edge_features=row)
    last = one_graph(num_edge_features=2 if row is not None else 0)
    looped_last = graphs.add_self_loops(last, edge_features=row)
    found = graphs.add_self_loops(jraph.batch_np([graph, last]), edge_features=row)
    expected = jraph.batch_np([looped, looped_last])
    assert found.n_node.tolist() == expected.n_node.tolist()
    assert found.n_edge.tolist() == expected.n_edge.tolist()
    np.testing.assert_array_equal(edge_rows(found), edge_rows(expected))
    graphs.validate(found)


@pytest.mark.parametrize("name", LOOPLESS)
@pytest.mark.parametrize("num_edges", [0, 3])
def test_add_self_loops_gives_padding_none(name, num_edges):
    graph = LOOPLESS[name]
    row = None if graph.edges is None else np.ones(2)
    found = graphs.add_self_loops(padded(graph, num_edges=num_edges), edge_features=row)
    num_nodes = len(graph.nodes)
    assert found.n_node.tolist() == [num_nodes, 3]
    assert found.n_edge.tolist() == [len(graph.senders) + num_nodes, num_edges]
    assert [mask.sum() for mask in graphs.padding_masks(found)] == [num_nodes, found.n_edge[0]]
    graphs.validate(found)


def test_add_self_loops_keeps_globals():
    graph = one_graph()._replace(globals=np.ones((1, 2)))
    np.testing.assert_array_equal(graphs.add_self_loops(graph).globals, graph.globals)


@pytest.mark.parametrize("name", GRAPHS)
def test_structural_features_are_of_each_graph_alone_and_0_for_padding(name):
    graph = GRAPHS[name]
    alone = graphs.structural_features(graph)
    if len(graph.senders):
        batch = jraph.batch_np([graph, graph])
        expected = np.concatenate([alone, alone])
        np.testing.assert_array_equal(graphs.structural_features(batch), expected)
    found = graphs.structural_features(padded(graph))
    np.testing.assert_array_equal(found, np.concatenate([alone, np.zeros((3, 4))]))


# --- counts that do not fit -----------------------------------------------------------------------


TAKE_A_GRAPH = {
    **FUNCTIONS_OF_ONE_GRAPH,
    "validate": graphs.validate,
    "add_self_loops": graphs.add_self_loops,
    "structural_features": graphs.structural_features,
    "pad": lambda graph: graphs.pad(graph, num_nodes=20, num_edges=20),
    "padding_masks": graphs.padding_masks,
}
LOOP = graphs.from_edges([0], [0], nodes=[[1.0]])


@pytest.mark.parametrize("function", sorted(set(TAKE_A_GRAPH) - {"validate"}))
@pytest.mark.parametrize("last", [GRAPHS["one node"], GRAPHS["isolated nodes"], LOOP])
def test_a_last_graph_that_may_be_padding_or_none_is_refused_everywhere(function, last):
    batch = jraph.batch_np([one_graph(), last])
    message = "^graph: expected zeros as features of padding, got others in a last graph without"
    with pytest.raises(ValueError, match=message):
        TAKE_A_GRAPH[function](batch)


@pytest.mark.parametrize("function", TAKE_A_GRAPH)
@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (None, "^graph: expected a jraph.GraphsTuple, got NoneType without nodes$"),
        ({"nodes": [[1.0]]}, "^graph: expected a jraph.GraphsTuple, got dict without nodes$"),
        (tuple(one_graph()), "^graph: expected a jraph.GraphsTuple, got tuple without nodes$"),
        ("karate_club", "^graph: expected a jraph.GraphsTuple, got str without nodes$"),
        (nx.path_graph(3), "^graph: expected a jraph.GraphsTuple, got Graph without senders$"),
        (
            one_graph()._replace(nodes=(np.ones((4, 1)), np.ones((3, 2)))),
            "^nodes: expected one set of nodes, got two$",
        ),
        (
            one_graph()._replace(nodes=(np.ones((2, 1)),) * 2, n_node=np.array([2])),
            "^nodes: expected one set of nodes, got two$",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_graph_of_one_set_of_nodes_is_refused_everywhere(function, graph, message):
    with pytest.raises(ValueError, match=message):
        TAKE_A_GRAPH[function](graph)


def test_masks_of_ids_that_are_none_are_refused():
    for field, ids in (("senders", [0, 99]), ("receivers", [0.0, 1.0]), ("senders", [0])):
        changed = BATCH._replace(**{field: np.resize(ids, 12 if len(ids) > 1 else 1)})
        with pytest.raises(ValueError, match=f"^{field}"):
            graphs.padding_masks(changed)


BATCH = jraph.batch_np([one_graph(), one_graph()])


@pytest.mark.parametrize("function", TAKE_A_GRAPH)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_node": [4, 5]}, "n_node: expected a sum of 8, got 9"),
        ({"n_edge": [4, 4]}, "n_edge: expected a sum of 12, got 8"),
        ({"n_node": [9, -1]}, "n_node: expected counts >= 0, got -1"),
        ({"n_edge": [13, -1]}, "n_edge: expected counts >= 0, got -1"),
        ({"n_node": [2, 6]}, "n_edge: expected the edges of graph 0 among its own nodes"),
        ({"n_edge": [5, 7]}, r"n_edge: expected the edges of graph 1 .* own nodes, got 0 -> 2"),
        ({"n_node": [8]}, "n_edge: expected 1 counts, got 2"),
        ({"n_node": 8}, r"n_node: expected a vector of integers, .* got shape \(\) of int64"),
        ({"n_node": [4.0, 4.0]}, "n_node: expected a vector of integers, .* of float64"),
        ({"n_edge": None}, "n_edge: expected an array of numbers, got dtype object, such as None"),
    ],
)
def test_counts_that_do_not_fit_are_refused_everywhere(function, changes, message):
    arrays = {k: v if v is None else np.array(v) for k, v in changes.items()}
    with pytest.raises(ValueError, match=message):
        TAKE_A_GRAPH[function](BATCH._replace(**arrays))


@pytest.mark.parametrize("function", sorted(set(TAKE_A_GRAPH) - {"padding_masks"}))
def test_a_graph_without_nodes_is_refused(function):
    empty = one_graph()._replace(
        nodes=np.zeros((0, 1)),
        senders=np.zeros(0, int),
        receivers=np.zeros(0, int),
        n_node=np.array([0]),
        n_edge=np.array([0]),
    )
    with pytest.raises(ValueError, match="nodes: expected at least one node, got 0"):
        TAKE_A_GRAPH[function](empty)
    assert [len(mask) for mask in graphs.padding_masks(empty)] == [0, 0]
