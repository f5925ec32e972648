"""Drawings of graphs: which nodes and edges are drawn, how they are marked, and where they are."""

import re

import numpy as np
import pytest
from findings import make_findings, make_hub

from gat_jax.diagnosis.pages import drawings
from gat_jax.diagnosis.pages.groups import groups_of, reasons_of
from gat_jax.diagnosis.pages.placing import place_nodes

# 2 and 3 receive from 0 and 1, as 4 does; 0, 1 and 5 receive from 2.
EDGES = [(0, 2), (1, 2), (0, 3), (1, 3), (0, 4), (1, 4), (2, 0), (2, 1), (2, 5), (5, 5)]


def described(found):
    groups = groups_of(found)
    return groups, drawings.describe_nodes(found, groups)


def ends_of(path):
    """The lines of a path, as pairs of places."""
    return [
        ((float(a), float(b)), (float(c), float(d)))
        for a, b, c, d in re.findall(r"M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)", path)
    ]


def test_groups_tell_merged_inseparable_and_separated_nodes_apart():
    found = make_findings(EDGES, [0, 0, 2, 2, 4, 5], [0, 0, 2, 3, 4, 5])
    groups = groups_of(found)
    kinds = [(group.number, group.kind, group.members) for group in groups]
    # 4 is a twin of 2 and 3, and alone, so that it makes no group.
    assert kinds == [(1, "merged", [2, 3]), (2, "inseparable", [0, 1])]
    merged, inseparable = reasons_of(found, groups)
    assert merged == "in conv1 every attention logit is positive"
    assert "no passing of messages" in inseparable
    apart = groups_of(make_findings(EDGES, range(6)))
    assert [(group.kind, group.members) for group in apart] == [
        ("separated", [0, 1]),
        ("separated", [2, 3, 4]),
    ][::-1]


def test_groups_are_numbered_by_size():
    found = make_findings(EDGES, [0, 0, 2, 2, 2, 5])
    assert [group.members for group in groups_of(found)] == [[2, 3, 4], [0, 1]]


def test_reasons_that_differ_within_a_group_are_said_to():
    found = make_findings(EDGES, [0, 0, 2, 2, 2, 5])
    merged = found.merged._replace(
        layers=np.array([0, 0, -1, 0, 0]),
        reasons=("between", "trivial", "between", "uniform", "uniform"),
    )
    found = make_findings(EDGES, [0, 0, 2, 2, 2, 5], merged=merged)
    first, _ = reasons_of(found, groups_of(found))
    assert first.startswith("in conv1 attention is uniform")
    assert first.endswith("and for other reasons")


def test_draw_graph_marks_nodes_and_draws_every_edge_once():
    found = make_findings(EDGES, [0, 0, 2, 2, 4, 5], [0, 0, 2, 3, 4, 5], node_names=tuple("abcdef"))
    _, nodes = described(found)
    drawing = drawings.draw_graph(found, nodes)
    assert [dot.number for dot in drawing.dots] == [2, 2, 1, 1, 0, 0]
    assert [dot.shape for dot in drawing.dots] == ["square"] * 2 + ["circle"] * 4
    # 0, 1 and 5 are trivial twins but for the self-loop of 5.
    assert [dot.is_twin for dot in drawing.dots] == [True, True, True, True, True, False]
    assert [dot.name for dot in drawing.dots] == list("abcdef")
    place = {(dot.x, dot.y): k for k, dot in enumerate(drawing.dots)}
    lines = [(place[a], place[b]) for a, b in ends_of(drawing.lines)]
    # 0 and 2, as 1 and 2, go both ways: one line each; the self-loop is not drawn.
    assert sorted(lines) == sorted([(0, 2), (1, 2), (0, 3), (1, 3), (0, 4), (1, 4), (2, 5)])
    assert drawing.arrows.count("Z") == 5


def test_arrow_heads_end_at_the_rim_of_the_receiver():
    found = make_findings([(0, 1)], [0, 1])
    drawing = drawings.draw_graph(found, described(found)[1])
    tip = np.array(re.match(r"M([\d.]+) ([\d.]+)", drawing.arrows).groups(), float)
    sender, receiver = (np.array([dot.x, dot.y]) for dot in drawing.dots)
    assert np.linalg.norm(tip - receiver) == pytest.approx(drawing.radius, abs=0.2)
    assert np.linalg.norm(tip - sender) < np.linalg.norm(receiver - sender)


def test_names_are_cut_and_made_visible():
    names = ("x" * 40, "a\u202eb")
    found = make_findings([(0, 1)], [0, 1], node_names=names)
    long, odd = drawings.draw_graph(found, described(found)[1]).dots
    assert long.name == "x" * 40
    assert long.label == "x" * 10 + "…"
    assert odd.name == "a\\u202eb"


def test_draw_neighbourhood_cuts_members_and_senders():
    found = make_hub(40)
    groups, nodes = described(found)
    leaves = drawings.draw_neighbourhood(found, nodes, groups[0])
    assert [dot.name for dot in leaves.members] == [str(k) for k in range(1, 13)]
    assert [dot.name for dot in leaves.senders] == ["0"]
    assert leaves.num_senders == 1
    heights = sorted(stop[1] for _, stop in ends_of(leaves.lines))
    assert heights == [dot.y for dot in leaves.members]
    both = make_findings([(k, r) for k in range(2, 42) for r in (0, 1)], [0, 0, *range(2, 42)])
    groups, nodes = described(both)
    hubs = drawings.draw_neighbourhood(both, nodes, groups[0])
    assert len(hubs.members) == 2
    assert len(hubs.senders) == 12
    assert hubs.num_senders == 40
    assert len(ends_of(hubs.lines)) == 24
    assert max(dot.y for dot in hubs.senders) < hubs.height


@pytest.mark.parametrize("num_nodes", [1, 2, 7, 120])
def test_place_nodes_lie_apart_in_the_box(num_nodes):
    rng = np.random.default_rng(0)
    ends = rng.integers(0, num_nodes, (num_nodes, 2))
    box = np.array([300.0, 400.0])
    places = place_nodes(num_nodes, ends, box, least=12.0)
    np.testing.assert_array_equal(places, place_nodes(num_nodes, ends, box, least=12.0))
    assert (places >= 0).all()
    assert (places <= box[None]).all()
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    assert (distance[~np.eye(num_nodes, dtype=bool)] > 11.0).all()


def test_place_nodes_puts_neighbours_near_each_other():
    ends = np.array([(i, k) for part in (0, 5) for i in range(5) for k in range(5) if i != k])
    ends += np.repeat([0, 5], 20)[:, None]
    places = place_nodes(10, ends, np.array([300.0, 300.0]), least=5.0)
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    assert distance[:5, :5].max() < distance[:5, 5:].mean()
