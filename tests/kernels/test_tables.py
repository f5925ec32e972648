"""Every edge has one slot in a table, and rows of equal degree are cut alike."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gat_jax.kernels import tables

WIDEST = tables.WIDTHS[-1]


def assert_lists_all_edges(table, rows, others) -> None:
    """Read the table row by row and compare with the edge list."""
    edges_of = [np.flatnonzero(rows == i) for i in range(len(table.places))]
    num_chunks = [-(-len(edges) // WIDEST) for edges in edges_of]
    widths = [bucket.edges.shape[1] for bucket in table.buckets]
    assert widths == sorted(set(widths))
    line = [(width, k) for width, b in zip(widths, table.buckets, strict=True) for k in b.nodes]
    chunks_of: dict[int, list[int]] = {}  # their places in the line
    for place, (_, node) in enumerate(line):
        chunks_of.setdefault(int(node), []).append(place)
    assert set(chunks_of) == {i for i, edges in enumerate(edges_of) if len(edges)}
    long = [i for i, count in enumerate(num_chunks) if count > 1]
    for node, expected in enumerate(edges_of):
        if len(expected) == 0:
            assert table.places[node] == -1
            continue
        chunks = chunks_of[node]
        assert chunks == list(range(chunks[0], chunks[0] + num_chunks[node]))
        (width,) = {line[k][0] for k in chunks}
        assert width == next((w for w in tables.WIDTHS if w >= len(expected)), WIDEST)
        bucket = table.buckets[widths.index(width)]
        own = bucket.nodes == node
        is_filled = np.arange(width) < bucket.sizes[own][:, None]
        edges = bucket.edges[own]
        np.testing.assert_array_equal(edges[is_filled], expected)  # in this order
        np.testing.assert_array_equal(
            edges[~is_filled], np.repeat(edges[:, 0], width)[~is_filled.ravel()]
        )
        np.testing.assert_array_equal(bucket.others[own], others[edges])
        is_long = node in long
        assert table.places[node] == (len(line) + long.index(node) if is_long else chunks[0])
    if not long:
        assert table.longer is None
        return
    first = len(line) - len(table.buckets[-1].nodes)  # the widest bucket's in the line
    chunks = np.concatenate([chunks_of[i] for i in long]) - first
    counts = [num_chunks[i] for i in long]
    assert_lists_all_edges(table.longer, np.repeat(np.arange(len(long)), counts), chunks)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    degrees=st.lists(st.integers(0, 20) | st.sampled_from([33, 80, 1100]), min_size=1, max_size=12),
    seed=st.integers(0, 1000),
    is_shuffled=st.booleans(),
)
def test_make_degree_buckets_lists_every_edge_once_in_order(degrees, seed, is_shuffled):
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(len(degrees)), degrees)
    others = rng.integers(len(degrees), size=len(rows))
    if is_shuffled:
        rng.shuffle(rows)
    assert_lists_all_edges(tables.make_degree_buckets(rows, others, len(degrees)), rows, others)


def test_make_degree_buckets_by_hand():
    # Node 1 has five edges, node 3 one, the others none.
    rows, others = np.array([1, 3, 1, 1, 1, 1]), np.array([0, 2, 1, 1, 2, 3])
    table = tables.make_degree_buckets(rows, others, 4)
    four, eight = table.buckets
    np.testing.assert_array_equal(table.places, [-1, 1, -1, 0])
    np.testing.assert_array_equal(four.nodes, [3])
    np.testing.assert_array_equal(four.edges, [[1, 1, 1, 1]])
    np.testing.assert_array_equal(four.others, [[2, 2, 2, 2]])
    np.testing.assert_array_equal(eight.nodes, [1])
    np.testing.assert_array_equal(eight.sizes, [5])
    np.testing.assert_array_equal(eight.edges, [[0, 2, 3, 4, 5, 0, 0, 0]])
    np.testing.assert_array_equal(eight.others, [[0, 1, 1, 2, 3, 0, 0, 0]])
    assert table.longer is None


def test_make_degree_buckets_of_a_row_of_chunks_of_chunks_by_hand():
    degree = WIDEST**2 + 1
    table = tables.make_degree_buckets(np.repeat([1, 0], [degree, 2]), np.arange(degree + 2), 2)
    four, widest = table.buckets
    np.testing.assert_array_equal(four.nodes, [0])
    np.testing.assert_array_equal(widest.sizes, [WIDEST] * WIDEST + [1])
    np.testing.assert_array_equal(table.places, [0, 1 + WIDEST + 1])
    [chunks] = table.longer.buckets
    np.testing.assert_array_equal(chunks.others[0], np.arange(WIDEST))
    np.testing.assert_array_equal(chunks.others[1], np.full(WIDEST, WIDEST))
    np.testing.assert_array_equal(chunks.sizes, [WIDEST, 1])
    [chunks] = table.longer.longer.buckets
    np.testing.assert_array_equal(chunks.others, [[0, 1, 0, 0]])
    assert table.longer.longer.longer is None


def test_make_degree_buckets_treats_rows_of_equal_degree_alike():
    degrees = np.random.default_rng(0).permutation(np.repeat([0, 1, 4, 5, 8, 9, 16, 17, 80, 97], 3))
    rows = np.repeat(np.arange(len(degrees)), degrees)
    table = tables.make_degree_buckets(rows, rows, len(degrees))
    treatment = {}
    for bucket in table.buckets:
        for node in set(bucket.nodes.tolist()):
            sizes = bucket.sizes[bucket.nodes == node]
            treatment.setdefault(degrees[node], []).append((bucket.edges.shape[1], tuple(sizes)))
    assert {degree: set(found) for degree, found in treatment.items()} == {
        1: {(4, (1,))},
        4: {(4, (4,))},
        5: {(8, (5,))},
        8: {(8, (8,))},
        9: {(16, (9,))},
        16: {(16, (16,))},
        17: {(32, (17,))},
        80: {(32, (32, 32, 16))},
        97: {(32, (32,) * 3 + (1,))},
    }
    assert all(len(found) == 3 for found in treatment.values())


def test_make_degree_buckets_without_edges():
    none = np.zeros(0, np.int32)
    table = tables.make_degree_buckets(none, none, 3)
    assert table.buckets == ()
    np.testing.assert_array_equal(table.places, [-1, -1, -1])


def test_make_chunked_rows_by_hand():
    rows = tables.make_chunked_rows(
        np.array([2, 0, 2, 2, 0]), np.array([1, 1, 0, 3, 2]), 4, chunk_size=2
    )
    expected = {
        "others": [1, 2, 1, 0, 3],
        "edges": [1, 4, 0, 2, 3],
        "starts": [0, 2, 2, 4, 5, 5],  # node 2 has two chunks, nodes 1 and 3 an empty one
        "owners": [0, 1, 2, 2, 3],
        "places": [-1, -1, 0, 1, -1],
        "long": [2],
        "long_starts": [0, 2],
    }
    for name, values in expected.items():
        assert getattr(rows, name).dtype == np.int32
        np.testing.assert_array_equal(getattr(rows, name), values, err_msg=name)
    assert (rows.num_nodes, rows.num_parts) == (4, 2)


def test_make_chunked_rows_bounds_the_chunks_of_a_hub():
    rows = tables.make_chunked_rows(np.zeros(100_000, int), np.zeros(100_000, int), 2)
    assert np.diff(rows.starts).max() == tables.CHUNK_SIZE
    assert rows.num_parts == -(-100_000 // tables.CHUNK_SIZE)


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        (([0, 1], [0]), {}, "one length"),
        (([0, 2], [0, 0]), {}, "got 0 to 2"),
        (([0, 1], [0, -1]), {}, "got -1 to 0"),
        (([0, 1], [0, 0]), {"chunk_size": 0}, "at least 1"),
    ],
)
def test_make_chunked_rows_refuses_what_a_kernel_would_follow(ids, options, message):
    with pytest.raises(ValueError, match=message):
        tables.make_chunked_rows(*map(np.array, ids), 2, **options)
