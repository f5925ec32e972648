"""Real graphs: what is said of their twins, and what is found wrong with them beforehand."""

import jraph
import numpy as np
import pytest

from gat_jax.graphs import NodeTask, TwinCounts, from_edges, pad
from gat_jax.runtime.stats import binomial_interval
from gat_jax.sampling import Counts
from gat_jax.studies import StudyConfig, prepare_study, real_graphs


def measured(collided_by_init, num_pairs):
    """The measurement of a graph of which so many pairs collided in each initialisation."""
    collided = np.array(collided_by_init)
    counts = Counts(*[np.array(0)] * len(Counts._fields))._replace(
        num_inits=np.array(len(collided)),
        collisions=collided.sum(),
        all_pairs_collided=np.sum(collided == num_pairs),
        squared_shares=np.sum((collided / num_pairs) ** 2),
    )
    twins = TwinCounts(**dict.fromkeys(TwinCounts._fields, 0) | {"pairs": num_pairs})
    row = real_graphs.GraphRow("g", "with", 5, 9, twins, None, None, dict.fromkeys((1, 8), counts))
    return real_graphs.measurements({"g": [row]})[0]["graph.g.with_loops.collision.gat.h1"]


@pytest.mark.parametrize("collided", [0, 7])
def test_a_share_without_spread_has_an_interval_that_is_no_point(collided):
    found = measured([collided] * 100, 7)
    low, high = binomial_interval(100 * (collided == 7), 100)
    assert (found.estimate, found.low, found.high) == (collided / 7, low, high)
    assert found.high - found.low > 0.01


def test_a_share_with_spread_has_the_interval_of_a_mean():
    collided = np.random.default_rng(0).integers(0, 8, size=100)
    found = measured(collided, 7)
    error = 1.96 * np.std(collided / 7) / 10
    np.testing.assert_allclose(
        [found.estimate, found.low, found.high],
        np.mean(collided / 7) + np.array([0.0, -error, error]),
    )


def make_task(*, labels=(0, 1, 0, 1), loop: bool = False, **fields) -> NodeTask:
    """Two hubs 0 and 1, and two leaves 2 and 3 that hang on both."""
    ends = [(0, 2), (1, 2), (0, 3), (1, 3)] + [(2, 2)] * loop
    senders, receivers = np.array([*ends, *(end[::-1] for end in ends if end[0] != end[1])]).T
    graph = from_edges(senders, receivers, nodes=np.eye(4, dtype=np.float32))
    return NodeTask("mine", graph._replace(**fields), None if labels is None else np.array(labels))


def test_prepare_finds_twins_and_floors_and_counts_nothing():
    without, with_loops = real_graphs.prepare(make_task())
    assert (without.row.loops, with_loops.row.loops) == ("without", "with")
    assert (without.row.num_edges, with_loops.row.num_edges) == (8, 12)
    assert without.row.twins.pairs == 2
    assert without.row.loss_floor == pytest.approx(np.log(2))
    assert with_loops.row.twins.pairs == 0
    assert without.row.counts == {}


def test_prepare_without_labels_has_no_floors():
    without, _ = real_graphs.prepare(make_task(labels=None))
    assert without.row.loss_floor is None
    assert without.row.unavoidable_loss_floor is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"loop": True},
            r"^mine: graph: expected no self-loops yet, got 1 \(.* node 2\)$",
        ),
        ({"labels": (0, 1)}, r"^mine: labels: expected shape \(4,\), got \(2,\)$"),
        (
            {"labels": (-1, -1, -1, -1)},
            "^mine: labels: expected at least one label",
        ),
        ({"labels": ((0, 1, 0, 1),)}, "^mine: labels: expected shape"),
        ({"labels": (0, 0.5, 0, 1)}, r"^mine: labels: expected whole numbers, got 0\.5 at \[1\]$"),
        ({"labels": (0, np.nan, 0, 1)}, "^mine: labels: expected whole numbers, got nan"),
        ({"labels": ("a", "b", "a", "b")}, "^mine: labels: expected whole numbers, got dtype <U1$"),
        ({"nodes": np.zeros((4, 0))}, "^mine: num_features: expected at least 1, got 0$"),
        ({"nodes": np.full((4, 1), 1e300)}, "^mine: nodes: expected numbers that float32 holds"),
        ({"edges": np.ones((8, 1))}, "^mine: edge_features: expected features of the loops"),
        ({"n_node": np.array([3])}, "^mine: n_node: expected a sum of 4, got 3$"),
        ({"senders": np.full(8, 4)}, r"^mine: senders: expected ids in \[0, 4\), got 4$"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_wrong_with_a_graph_is_found_before_the_study(changes, message):
    with pytest.raises(ValueError, match=message):
        prepare_study(StudyConfig(), [make_task(**changes)])


def test_a_batch_is_found_before_the_study():
    task = make_task(labels=None)
    batch = task._replace(graph=jraph.batch_np([task.graph, task.graph]))
    with pytest.raises(ValueError, match=r"^mine: graph: expected one graph, got a batch of 2"):
        prepare_study(StudyConfig(), [batch])


def test_labels_of_one_class_have_a_floor_of_0():
    without, with_loops = real_graphs.prepare(make_task(labels=(3, 3, 3, 3)))
    assert (without.row.loss_floor, with_loops.row.loss_floor) == (0.0, 0.0)


def test_padding_counts_nowhere():
    task = make_task()
    graph = pad(task.graph, num_nodes=7, num_edges=10)
    padded = task._replace(graph=graph, labels=np.append(task.labels, [-1, -1, -1]))
    for found, expected in zip(real_graphs.prepare(padded), real_graphs.prepare(task), strict=True):
        assert found.row == expected.row


def test_the_floor_of_twins_is_never_below_the_unavoidable_one():
    # 0 and 1 have equal features; 2 and 3 are leaves of one of them each, with different labels.
    ends = np.array([(0, 2), (2, 0), (1, 3), (3, 1)])
    graph = from_edges(*ends.T, nodes=np.array([[1.0], [1.0], [0.0], [2.0]], np.float32))
    rows = [x.row for x in real_graphs.prepare(NodeTask("mine", graph, np.array([0, 0, 0, 1])))]
    assert all(row.loss_floor >= row.unavoidable_loss_floor for row in rows)
    assert rows[0].unavoidable_loss_floor == pytest.approx(np.log(2) / 2)
