import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from gat_jax import graphs
from gat_jax.graphs import best_constant_ranking_accuracy, dictionary_lookup


def test_every_query_hears_every_key_of_its_dictionary():
    task = dictionary_lookup(3, 2, seed=0)
    graph = task.graph
    assert task.name == "dictionary_lookup_3"
    assert graph.nodes.shape == (12, 6)
    found = sorted(zip(graph.receivers.tolist(), graph.senders.tolist(), strict=True))
    expected = [(d + 3 + q, d + j) for d in (0, 6) for q in range(3) for j in range(3)]
    assert found == expected
    graphs.validate(graph)


def test_labels_are_the_values_of_the_queries_own_keys():
    k, num_dictionaries = 5, 40
    task = dictionary_lookup(k, num_dictionaries, seed=1)
    nodes = task.graph.nodes.reshape(num_dictionaries, 2, k, 2, k)
    labels = task.labels.reshape(num_dictionaries, 2, k)
    assert (nodes.sum(-1)[:, :, :, 0] == 1).all()
    assert (nodes[:, 1, :, 1] == 0).all()
    assert (labels[:, 0] == -1).all()
    for d in range(num_dictionaries):
        value_of = {
            int(nodes[d, 0, j, 0].argmax()): int(nodes[d, 0, j, 1].argmax()) for j in range(k)
        }
        assert sorted(value_of) == sorted(value_of.values()) == list(range(k))
        keys = nodes[d, 1, :, 0].argmax(-1)
        assert labels[d, 1].tolist() == [value_of[key] for key in keys.tolist()]


def test_orders_are_random_and_those_of_the_seed():
    one, other = dictionary_lookup(4, 2000, seed=2), dictionary_lookup(4, 2000, seed=3)
    np.testing.assert_array_equal(one.labels, dictionary_lookup(4, 2000, seed=2).labels)
    assert not np.array_equal(one.labels, other.labels)
    orders = one.labels.reshape(2000, 2, 4)[:, 1]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert np.abs(counts - 2000 / 24).max() < 40


def test_queries_are_twins_unless_they_hear_themselves():
    task = dictionary_lookup(4, 3, seed=4)
    pairs = graphs.twin_pairs(graphs.twin_classes(task.graph))
    separate = ~np.asarray(pairs.is_trivial)
    assert separate.sum() == 3 * 6
    assert (task.labels[pairs.first[separate]] != task.labels[pairs.second[separate]]).all()
    looped = dictionary_lookup(4, 3, seed=4, self_loops=True).graph
    assert len(looped.senders) == 3 * 4 * 5
    loops = looped.receivers[looped.senders == looped.receivers]
    np.testing.assert_array_equal(loops, np.flatnonzero(task.labels >= 0))
    assert (np.bincount(looped.receivers, minlength=24).reshape(3, 2, 4)[:, 1] == 5).all()
    pairs = graphs.twin_pairs(graphs.twin_classes(looped))
    assert np.asarray(pairs.is_trivial).all()


@pytest.mark.parametrize(("k", "expected"), [(2, 0.75), (3, 11 / 18), (10, 0.29289682539682538)])
def test_best_constant_ranking_accuracy_by_hand(k, expected):
    assert best_constant_ranking_accuracy(k) == pytest.approx(expected, rel=1e-12)


def best_share(k: int, rank: int) -> float:
    """Most orders of the values that the query of this rank can be right for, by trying all sets.

    Unknown are the attention of the keys, in the order of the ranking, and the biases of the
    values; each set of orders is a set of linear inequalities, with a margin of 1 (they scale).
    """
    orders = list(itertools.permutations(range(k)))
    falling = np.zeros((k - 1, 2 * k))
    for j in range(k - 1):
        falling[j, [j, j + 1]] = -1, 1
    for size in range(len(orders), 0, -1):
        for chosen in itertools.combinations(orders, size):
            rows = []
            for order in chosen:
                for j in set(range(k)) - {rank}:
                    row = np.zeros(2 * k)
                    row[[rank, k + order[rank]]] -= 1
                    row[[j, k + order[j]]] += 1
                    rows.append(row)
            bounds = [(0, None)] * k + [(None, None)] * k
            inequalities = np.concatenate([rows, falling])
            limits = np.concatenate([np.full(len(rows), -1.0), np.zeros(k - 1)])
            found = linprog(np.zeros(2 * k), inequalities, limits, bounds=bounds)
            if found.status == 0:
                return size / len(orders)
    return 0.0


@pytest.mark.parametrize("k", [2, 3])
def test_best_constant_ranking_accuracy_is_what_trying_all_gives(k):
    shares = [best_share(k, rank) for rank in range(k)]
    np.testing.assert_allclose(shares, 1 / np.arange(1, k + 1))
    assert best_constant_ranking_accuracy(k) == pytest.approx(np.mean(shares))


def test_a_map_that_mixes_values_can_do_better():
    """One ranking for all queries, but a value is read as more than the attention of its key."""
    of_key = np.array([2.7, -0.225, -4.13])
    of_query = np.array([7.16, -1.3, -4.79])
    values = np.array([[0.5, -1, 1], [0.5, 1, 0], [0.5, 1, -0.5]])  # what each adds to all logits
    keys = np.array([[0.1, 1.1, 0], [34.1, 24.1, 0], [-78, -72.6, 0]])
    scores = of_query[:, None] + of_key[None]
    weights = np.exp(np.where(scores > 0, scores, 0.2 * scores))
    attention = weights / weights.sum(axis=1, keepdims=True)
    assert (np.argsort(-attention, axis=1) == np.arange(3)).all()
    is_right = []
    for order in itertools.permutations(range(3)):
        logits = attention @ (keys + values[list(order)])
        is_right.extend(np.argmax(logits, axis=1) == order)
    assert np.mean(is_right) == 12 / 18 > best_constant_ranking_accuracy(3)


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ValueError, match="num_keys: expected at least 2, got 1"):
        dictionary_lookup(1, 1, 0)
    with pytest.raises(ValueError, match="num_dictionaries: expected at least 1, got 0"):
        dictionary_lookup(2, 0, 0)
    with pytest.raises(ValueError, match="seed: expected at least 0, got -1"):
        dictionary_lookup(2, 1, -1)
    with pytest.raises(ValueError, match=r"num_keys: expected at most .* GiB"):
        dictionary_lookup(10**6, 10**6, 0)
    with pytest.raises(ValueError, match="num_keys: expected at least 2, got 1"):
        best_constant_ranking_accuracy(1)
