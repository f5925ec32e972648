"""Regime maps and histograms, and the numbers of a layer that they are drawn from."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from findings import make_layer

from gat_jax import graphs
from gat_jax.diagnosis import regimes
from gat_jax.diagnosis.heads import head_facts
from gat_jax.diagnosis.pages import charts
from gat_jax.layers import AttentionInfo
from gat_jax.symmetry import RowSigns, normalised_entropy


def make_info(graph, shape, *, edge_scores=False, seed=0):
    """What a layer saw, with made-up scores of a given shape beside the nodes: (H,) or (H, C)."""
    rng = np.random.default_rng(seed)
    num_nodes, num_edges = len(graph.nodes), len(graph.senders)
    attention = rng.uniform(0.1, 1.0, (num_edges, shape[0]))
    for node in range(num_nodes):
        attention[graph.receivers == node] /= attention[graph.receivers == node].sum(axis=0)[None]
    return AttentionInfo(
        receiver_scores=rng.normal(size=(num_nodes, *shape)),
        sender_scores=rng.normal(size=(num_nodes, *shape)),
        edge_scores=rng.normal(size=(num_edges, *shape)) if edge_scores else None,
        logits=np.zeros((num_edges, shape[0])),
        attention=attention,
        head_outputs=rng.normal(size=(num_nodes, shape[0], 2)),
        channel_weights=None,
    )


def make_graph(num_nodes=12, num_edges=60):
    rng = np.random.default_rng(0)
    senders, receivers = rng.integers(0, num_nodes, (2, num_edges))
    return graphs.from_edges(senders, receivers, nodes=np.zeros((num_nodes, 1), np.float32))


@pytest.mark.parametrize("edge_scores", [False, True])
@pytest.mark.parametrize("shape", [(3,), (2, 5)])
def test_regime_rows_hold_the_scores_of_every_row(shape, edge_scores):
    graph = make_graph()
    info = make_info(graph, shape, edge_scores=edge_scores)
    num = len(graph.nodes)
    outputs, candidates = np.arange(num), np.arange(num)
    outputs[1] = candidates[1] = 0  # equal, but without a row to speak of
    outputs[5] = candidates[5] = 2
    candidates[7] = 6
    degree = np.bincount(graph.receivers, minlength=num)
    is_alike = degree <= 1
    is_alike[[0, 1]] = True
    rows = regimes.regime_rows(info, graph, candidates, is_alike, outputs)
    assert rows.nodes[:4].tolist() == [2, 5, 6, 7]
    assert sorted(rows.nodes.tolist()) == np.flatnonzero(~is_alike).tolist()
    assert rows.is_equal.tolist() == [k < 2 for k in range(len(rows.nodes))]
    assert rows.is_candidate.tolist() == [k < 4 for k in range(len(rows.nodes))]
    assert rows.num_panels == np.prod(shape)
    assert len(rows.panels) == min(rows.num_panels, 8)
    for k, node in enumerate(rows.nodes):
        edges = np.flatnonzero(graph.receivers == node)
        parts = np.array([info.sender_scores[graph.senders[e]].ravel() for e in edges])
        if edge_scores:
            parts = parts + np.array([info.edge_scores[e].ravel() for e in edges])
        np.testing.assert_allclose(rows.lowest[k], parts.min(axis=0)[:8])
        np.testing.assert_allclose(rows.highest[k], parts.max(axis=0)[:8])
        np.testing.assert_allclose(rows.receiver_parts[k], info.receiver_scores[node].ravel()[:8])
    if len(shape) == 2:
        assert rows.panels[6] == "head 1, channel 1"


def test_regime_rows_are_few():
    num = 3000
    senders = np.concatenate([np.zeros(num, int), np.ones(num, int)])
    receivers = np.tile(np.arange(num), 2)
    graph = graphs.from_edges(senders, receivers, nodes=np.zeros((num, 1), np.float32))
    outputs, candidates = np.arange(num), np.arange(num)
    outputs[:1000] = candidates[:1000] = 0
    candidates[1000:2000] = 1000
    info = make_info(graph, (1,))
    rows = regimes.regime_rows(info, graph, candidates, np.zeros(num, bool), outputs)
    kinds = np.bincount(rows.is_equal + 2 * rows.is_candidate)
    assert kinds.tolist() == [50, 0, 150, 200]
    assert rows.num_nodes == num


def test_regime_rows_of_no_row():
    graph = graphs.from_edges([0], [1], nodes=np.zeros((2, 1), np.float32))
    ids = np.arange(2)
    rows = regimes.regime_rows(make_info(graph, (2,)), graph, ids, np.ones(2, bool), ids)
    assert len(rows.nodes) == 0
    assert charts.draw_regimes(make_layer([0, 1], regimes=rows)) == []


def test_entropy_counts_are_those_of_each_row():
    graph = make_graph()
    info = make_info(graph, (2,))
    none = np.zeros((12, 2, 1))
    entropy = np.asarray(normalised_entropy(jnp.asarray(info.attention), graph.receivers, 12))
    signs = RowSigns(none, none > 0, none > 0, none > 0, none > 0)
    facts = head_facts(info, graph, signs, entropy)
    expected = np.zeros((2, 40), int)
    for node in range(12):
        for head in range(2):
            p = info.attention[graph.receivers == node, head]
            if len(p) >= 2:
                share = -np.sum(p * np.log(p)) / np.log(len(p))
                expected[head, min(int(share * 40), 39)] += 1
    np.testing.assert_array_equal(facts.entropy_counts, expected)


# --- charts ---------------------------------------------------------------------------------------


def test_regime_map_puts_rows_on_the_side_of_their_signs():
    first, second = charts.draw_regimes(make_layer([0, 0]))
    assert first.name == "head 0"
    assert first.fact == "50% of all rows positive, 50% negative"
    # Rows (c, lowest n, highest n): (1, 0, 3) is positive, (2, -3, 1) is mixed in head 0;
    # (-1, -2, -1) and (0, -1, -1) are negative in head 1.
    assert sides(first, first.equal) == [("above", "above")]
    assert sides(first, first.different) == [("below", "above")]
    assert sides(second, second.equal) == [("below", "below")]
    assert sides(second, second.different) == [("below", "below")]
    assert first.others == second.others == ""


def sides(regime_map, path):
    """On which side of the border the two ends of each row are drawn."""
    (x0, y0), (x1, y1) = (map(float, x.split(",")) for x in regime_map.border[1:].split("L"))
    assert x0 == pytest.approx(charts.LEFT)
    assert x1 == pytest.approx(charts.WIDTH - charts.RIGHT)

    def side(x, y):
        return "above" if y < y0 + (y1 - y0) * (x - x0) / (x1 - x0) else "below"

    rows = re.findall(r"M([\d.]+) ([\d.]+)V([\d.]+)", path)
    for row in rows:
        assert charts.LEFT <= float(row[0]) <= charts.WIDTH - charts.RIGHT
        assert all(charts.TOP <= float(y) <= charts.HEIGHT - charts.BOTTOM for y in row[1:])
    return [(side(float(x), float(low)), side(float(x), float(high))) for x, low, high in rows]


def test_regime_map_of_zeros_has_axes():
    rows = make_layer([0, 0]).regimes
    zeros = np.zeros((2, 2))
    rows = rows._replace(receiver_parts=zeros, lowest=zeros, highest=zeros)
    first, _ = charts.draw_regimes(make_layer([0, 0], regimes=rows))
    assert [tick.text for tick in first.x_ticks] == ["-1", "-0.5", "0", "0.5", "1"]


@pytest.mark.parametrize(
    ("ends", "texts"),
    [
        ((-1.0, 1.0), ["-1", "-0.5", "0", "0.5", "1"]),
        ((-0.01, 0.31), ["0", "0.1", "0.2", "0.3"]),
        ((0.0, 4e6), ["0", "1e+06", "2e+06", "3e+06", "4e+06"]),
        ((-7.0, 0.1), ["-6", "-4", "-2", "0"]),
    ],
)
def test_ticks_are_round_numbers(ends, texts):
    assert [text for _, text in charts._ticks(*ends)] == texts


def test_histogram_has_a_bar_for_each_bin_that_is_not_empty():
    histogram = charts.draw_entropies(make_layer([0, 0]))
    assert len(histogram.strips) == 2
    strip = histogram.strips[0]
    assert strip.text == "head 0: 50.0% in the mean"
    assert strip.mean == pytest.approx((charts.CHART_LEFT + charts.CHART - charts.CHART_RIGHT) / 2)
    bars = re.findall(r"M([\d.]+) (\d+)V([\d.]+)H", strip.bars)
    heights = [float(foot) - float(top) for _, foot, top in bars]
    assert heights == pytest.approx([charts.BARS / 3, charts.BARS], abs=0.06)
    assert float(bars[0][0]) == pytest.approx(strip.mean, abs=0.06)  # bin 20 begins at 50%


def test_histogram_of_no_attention_is_none():
    assert charts.draw_entropies(make_layer([0, 0], kind="gcn")) is None


def test_heads_beyond_eight_are_counted():
    facts = make_layer([0, 0]).head_facts
    many = facts._replace(
        **{name: np.repeat(values, 5, axis=0) for name, values in facts._asdict().items()}
    )
    histogram = charts.draw_entropies(make_layer([0, 0], heads=10, head_facts=many))
    assert len(histogram.strips) == 8
    assert histogram.num_others == 2
