"""Twin classes, their counts and the loss floor, against brute force and real graphs."""

import itertools
import re
import tracemalloc
from pathlib import Path

import jax.numpy as jnp
import networkx as nx
import numpy as np
import oracle
import pytest
from helpers import brute_force_equal
from hypothesis import given, settings
from hypothesis import strategies as st

from gat_jax import graphs
from gat_jax.graphs import twins
from gat_jax.runtime import devices

DATA = Path(__file__).parents[3] / "shared" / "data"

# Small ids, so that equal supports, duplicates, isolated nodes and self-loops are all common.
EDGE = st.tuples(st.integers(0, 2), st.integers(0, 5), st.sampled_from([-0.0, 0.0, 1.0]))
EDGES = st.lists(EDGE, max_size=14)
explore = settings(max_examples=100, deadline=None, derandomize=True)


def build(edges, *, has_features, nodes=None):
    table = np.array(edges, np.float64).reshape(-1, 3)
    ids = table[:, :2].astype(int)
    features = table[:, 2:] if has_features else None
    nodes = np.eye(6) if nodes is None else nodes
    return graphs.from_edges(ids[:, 0], ids[:, 1], nodes=nodes, edges=features)


def smallest_of_pairs(pairs, num_nodes):
    smallest = np.arange(num_nodes)
    for i, k, *_ in pairs:
        smallest[k] = min(smallest[k], i)
    return smallest


# --- classes, pairs, counts -----------------------------------------------------------------------


@explore
@given(EDGES, st.booleans())
def test_twin_classes_pairs_and_counts_agree_with_brute_force(edges, has_features):
    graph = build(edges, has_features=has_features)
    expected = oracle.twin_pairs(graph.senders, graph.receivers, 6, graph.edges)
    classes = twins.twin_classes(graph)
    np.testing.assert_array_equal(classes.twin, smallest_of_pairs(expected, 6))
    for include_trivial in (False, True):
        pairs = twins.twin_pairs(classes, include_trivial=include_trivial)
        listed = zip(*(x.tolist() for x in pairs), strict=True)
        assert sorted(listed) == [p for p in expected if include_trivial or not p[2]]
    counts = twins.count_twins(classes)
    for is_trivial, found in ((False, counts[:3]), (True, counts[3:])):
        pairs = [p[:2] for p in expected if p[2] == is_trivial]
        nodes = {node for pair in pairs for node in pair}
        assert found == (len(nodes), len({classes.twin[v] for v in nodes}), len(pairs))


@explore
@given(EDGES, st.booleans())
def test_twin_classes_are_trivial_with_one_distinct_edge_or_none(edges, has_features):
    graph = build(edges, has_features=has_features)
    features = graph.edges + 0.0 if has_features else np.zeros((len(edges), 1))
    distinct = [set() for _ in range(6)]
    for sender, receiver, feature in zip(graph.senders, graph.receivers, features, strict=True):
        distinct[receiver].add((int(sender), float(feature[0])))
    is_trivial = twins.twin_classes(graph).is_trivial
    np.testing.assert_array_equal(is_trivial, [len(support) <= 1 for support in distinct])


def test_twin_classes_of_the_tutorial_depend_on_its_self_loops():
    graph = graphs.tutorial_graph()
    assert twins.twin_classes(graph).twin.tolist() == [0, 1, 2, 2]
    bare = graph.senders != graph.receivers
    without = graphs.from_edges(graph.senders[bare], graph.receivers[bare], nodes=graph.nodes)
    assert twins.twin_classes(without).twin.tolist() == [0, 1, 2, 3]


def test_twin_classes_refuse_unsorted_edges():
    graph = graphs.tutorial_graph()
    with pytest.raises(ValueError, match="edges: expected to be sorted"):
        twins.twin_classes(graph._replace(senders=graph.senders[::-1]))


def test_twins_of_stars_and_complete_graphs_are_counted_by_classes():
    num = 20_000
    tracemalloc.start()
    hub = graphs.from_edges(np.zeros(num, int), np.arange(1, num + 1), nodes=np.zeros((num + 1, 1)))
    classes = twins.twin_classes(hub)
    assert twins.count_twins(classes) == (0, 0, 0, num, 1, num * (num - 1) // 2)
    leaves = np.arange(3, num + 3)  # each attached to the same three hubs
    senders, receivers = np.repeat(np.arange(3), num), np.tile(leaves, 3)
    hubs = graphs.from_edges(senders, receivers, nodes=np.zeros((num + 3, 1)))
    counts = twins.count_twins(twins.twin_classes(hubs))
    assert counts == (num, 1, num * (num - 1) // 2, 3, 1, 3)
    complete = graphs.add_self_loops(graphs.from_networkx(nx.complete_graph(300)))
    assert twins.count_twins(twins.twin_classes(complete)) == (300, 1, 44850, 0, 0, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6  # there are 2e8 pairs


def test_twin_counts_of_the_built_in_graphs():
    for graph in (graphs.karate_club(), graphs.les_miserables()):
        for given_graph in (graph, graphs.add_self_loops(graph)):
            pairs = oracle.twin_pairs(
                given_graph.senders, given_graph.receivers, len(given_graph.nodes)
            )
            counts = twins.count_twins(twins.twin_classes(given_graph))
            assert counts.pairs == sum(not is_trivial for *_, is_trivial in pairs)
            assert counts.trivial_pairs == sum(is_trivial for *_, is_trivial in pairs)
    karate = twins.count_twins(twins.twin_classes(graphs.karate_club()))
    assert (karate.pairs, karate.trivial_pairs) == (11, 0)


# --- real graphs ----------------------------------------------------------------------------------


def real_twin_counts(name, has_loops):
    """Twin pairs in all, with different labels, with equal features; nodes in a class."""
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as data:
        num_nodes, labels = int(data["num_nodes"]), data["labels"]
        senders, receivers = data["senders"], data["receivers"]
        # Each look-up decompresses the whole array.
        starts, columns, values = (data[f"feat_{x}"] for x in ("indptr", "indices", "data"))
    features = [
        columns[start:stop].tobytes() + values[start:stop].tobytes()
        for start, stop in itertools.pairwise(starts)
    ]
    if has_loops:
        senders, receivers = (np.append(ids, np.arange(num_nodes)) for ids in (senders, receivers))
    classes = twins.twin_classes(
        graphs.from_edges(senders, receivers, nodes=np.zeros((num_nodes, 1)))
    )
    counts = twins.count_twins(classes)
    # Pairs with something equal are pairs within the classes of both.
    pairs = counts.pairs + counts.trivial_pairs

    def equal_pairs(values):
        keys = np.stack([classes.twin, np.unique(values, return_inverse=True)[1]])
        sizes = np.unique(keys, axis=1, return_counts=True)[1]
        return int(np.sum(sizes * (sizes - 1) // 2))

    in_class = counts.nodes + counts.trivial_nodes
    return pairs, pairs - equal_pairs(labels), equal_pairs(features), in_class


def test_twin_counts_of_real_graphs_agree_with_their_table():
    if not DATA.exists():
        # Said aloud; the built-in real graphs are counted above and in what follows.
        print(f"{DATA} is absent: its graphs are not counted")
        miserables = twins.count_twins(twins.twin_classes(graphs.les_miserables()))
        assert miserables.trivial_pairs > 0
        return
    table = re.findall(r"^\| (\w+) \|(.*)\|$", (DATA / "README.md").read_text(), re.MULTILINE)
    checked = 0
    for name, line in table:
        if not (DATA / f"{name}.npz").exists():
            continue
        cells = line.split("|")
        open_twins, closed_twins = (
            tuple(int(part) for part in cell.split("/")) for cell in cells[5:7]
        )
        is_open, is_closed = real_twin_counts(name, False), real_twin_counts(name, True)
        assert is_open[:3] == (open_twins if len(open_twins) == 3 else (0, 0, 0)), name
        assert is_closed[:3] == (closed_twins if len(closed_twins) == 3 else (0, 0, 0)), name
        assert is_open[3] + is_closed[3] >= int(cells[7]), name
        checked += 1
    assert checked == 8


# --- classes of equal outputs ---------------------------------------------------------------------


@explore
@given(EDGES, st.booleans(), st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_output_classes_agree_with_averages_of_equal_inputs(edges, has_features, inputs):
    # With uniform weights a row is the average of one-hot inputs. The edge features only split
    # rows of several senders: give every (input, feature) a weight of its own.
    graph = build(edges, has_features=has_features)
    rows = np.zeros((6, 3, 2))
    features = graph.edges[:, 0].astype(int) if has_features else np.zeros(len(edges), int)
    for sender, receiver, feature in zip(graph.senders, graph.receivers, features, strict=True):
        rows[receiver, inputs[sender], feature] += 1
    total = rows.sum((1, 2))
    rows = rows / np.maximum(total, 1)[:, None, None]
    one_sender = (rows.sum(2) > 0).sum(1) == 1
    rows[one_sender] = rows[one_sender].sum(2, keepdims=True) * [[[1.0, 0.0]]]
    classes = twins.output_classes(graph, np.array(inputs))
    np.testing.assert_array_equal(classes.smallest, brute_force_equal(rows))
    np.testing.assert_array_equal(classes.is_trivial, one_sender | (total == 0))


def test_output_classes_of_sums_tell_a_support_from_its_double():
    graph = graphs.from_edges([0, 1, 0, 0, 1, 1], [2, 2, 3, 3, 3, 3], nodes=np.eye(4))
    inputs = np.arange(4)
    assert twins.output_classes(graph, inputs).smallest.tolist() == [0, 0, 2, 2]
    sums = twins.output_classes(graph, inputs, is_average=False)
    assert sums.smallest.tolist() == [0, 0, 2, 3]


def test_equal_rows_name_the_smallest_node_and_treat_both_zeros_alike():
    rows = np.array([[0.0, 1.0], [2.0, 1.0], [-0.0, 1.0], [2.0, 1.0]])
    assert twins.equal_rows(rows).tolist() == [0, 1, 0, 1]
    assert twins.equal_rows(np.zeros((3, 0))).tolist() == [0, 0, 0]
    for dtype in (np.int64, np.float16, jnp.bfloat16):
        assert twins.equal_rows(rows.astype(dtype)).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0.0], [np.nan]]), "values: expected numbers, got nan in row 1"),
        (np.zeros(3), r"values: expected an array \[rows, columns\], got shape \(3,\)"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_equal_rows_name_what_is_wrong(values, message):
    with pytest.raises(ValueError, match=message):
        twins.equal_rows(values)


# --- loss floor -----------------------------------------------------------------------------------


@explore
@given(
    st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 3)), min_size=1, max_size=12).filter(
        lambda nodes: any(label >= 0 for label, _ in nodes)
    )
)
def test_loss_floor_agrees_with_brute_force(nodes):
    labels, groups = np.array(nodes).T
    members = [np.flatnonzero(groups == g).tolist() for g in set(groups.tolist())]
    expected = oracle.loss_floor(labels, members)
    assert twins.loss_floor(labels, groups) == pytest.approx(expected, abs=1e-14)


def test_loss_floor_of_the_article():
    classes = twins.twin_classes(graphs.tutorial_graph())
    floor = twins.loss_floor(np.array(oracle.LABELS), classes.smallest)
    assert floor == pytest.approx(2 * np.log(2) / 4, abs=1e-15)


def test_loss_floor_of_leaves_is_the_entropy_of_their_labels():
    graph = graphs.from_networkx(nx.star_graph(4))
    floor = twins.loss_floor([0, 1, 1, 1, 0], twins.twin_classes(graph).smallest)
    assert floor == pytest.approx((-3 * np.log(3 / 4) - np.log(1 / 4)) / 5)


def brute_force_join(*partitions):
    """Merge classes that share a node until none do."""
    groups = [{v for v in range(len(p)) if p[v] == name} for p in partitions for name in set(p)]
    merged = True
    while merged:
        merged = False
        for a, b in itertools.combinations(groups, 2):
            if a & b:
                groups = [g for g in groups if g is not a and g is not b] + [a | b]
                merged = True
                break
    return [min(g) for v in range(len(partitions[0])) for g in groups if v in g]


@explore
@given(
    EDGES,
    st.booleans(),
    st.lists(st.integers(0, 2), min_size=6, max_size=6),
    st.lists(st.integers(0, 2), min_size=6, max_size=6),
)
def test_twins_stay_equal_in_the_finest_classes_that_hold_both_relations(
    edges, has_features, inputs, labels
):
    graph = build(edges, has_features=has_features, nodes=np.array(inputs, float)[:, None])
    classes, inseparable = twins.twin_classes(graph), twins.inseparable_classes(graph)
    expected = brute_force_join(classes.twin.tolist(), inseparable.tolist())
    assert classes.smallest.tolist() == expected
    floors = [twins.loss_floor(labels, x) for x in (classes.twin, inseparable, classes.smallest)]
    assert floors[2] >= max(floors[:2]) - 1e-15


def test_the_floor_of_twins_is_not_below_that_of_nodes_no_layer_can_tell_apart():
    # 0 and 1 have equal features, 2 hears only 0, 3 hears only 1: nothing can tell 2 from 3.
    nodes = np.array([[1.0], [1.0], [0.0], [2.0]])
    graph = graphs.from_edges([0, 1, 2, 3], [2, 3, 0, 1], nodes=nodes)
    classes = twins.twin_classes(graph)
    assert classes.twin.tolist() == [0, 1, 2, 3]
    assert classes.smallest.tolist() == [0, 1, 2, 2]
    assert twins.loss_floor([0, 0, 0, 1], classes.smallest) == pytest.approx(np.log(2) / 2)


def test_features_that_float32_does_not_tell_apart_are_equal():
    nodes = np.array([[1.0], [1.0 + 1e-12], [0.0], [0.0]])
    graph = graphs.from_edges([0, 1], [2, 3], nodes=nodes, edges=[[1.0], [1.0]])
    assert twins.inseparable_classes(graph).tolist() == [0, 0, 2, 2]
    twice = graphs.from_edges([0, 0], [2, 2], nodes=nodes, edges=[[1.0], [1.0 + 1e-12]])
    assert twins.twin_classes(twice).is_trivial.all()


def test_features_that_float64_tells_apart_are_not_equal_where_it_is_on(x64):
    del x64
    graph = graphs.from_edges([0, 1], [2, 3], nodes=[[1.0], [1.0 + 1e-12], [0.0], [0.0]])
    assert twins.inseparable_classes(graph).tolist() == [0, 0, 2, 3]


def test_twin_pairs_that_fit_into_no_memory_are_refused(monkeypatch):
    hubs = graphs.from_edges(np.repeat([0, 1], 40), np.tile(range(2, 42), 2), nodes=np.eye(42))
    classes = twins.twin_classes(hubs)
    assert len(twins.twin_pairs(classes).first) == 780
    monkeypatch.setattr(devices, "host_memory", lambda: 4 * 64 * 779)
    with pytest.raises(ValueError, match="the list of 780 pairs of twins: expected at most"):
        twins.twin_pairs(classes)


@pytest.mark.parametrize(
    ("labels", "groups", "message"),
    [
        ([0.5, 1], [0, 0], r"labels: expected whole numbers, got 0\.5 at \[0\]"),
        ([np.nan, 1], [0, 0], r"labels: expected whole numbers, got nan at \[0\]"),
        (["a", "b"], [0, 0], "labels: expected whole numbers, got dtype <U1"),
        ([0, 1], [0, 0.5], r"groups: expected whole numbers, got 0\.5 at \[1\]"),
        ([0, 1], [0, 0, 0], r"labels: expected shape \(3,\), got \(2,\)"),
        ([-1, -1], [0, 0], "labels: expected at least one label >= 0, got none"),
        ([[0, 1]], [[0, 0]], r"labels: expected"),
    ],
)
def test_loss_floor_names_what_is_wrong(labels, groups, message):
    with pytest.raises(ValueError, match=message):
        twins.loss_floor(labels, groups)
