"""What the drawings of a page consist of: places and paths, in CSS pixels, for the template.

The template draws them as SVG with the colours of its style sheet, so that one drawing serves the
light and the dark theme.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gat_jax.diagnosis.pages.groups import Group
from gat_jax.diagnosis.pages.placing import place_nodes
from gat_jax.diagnosis.results import Findings
from gat_jax.graphs.supports import sizes_of
from gat_jax.runtime.text import visible

MAX_WHOLE = 150  # nodes of a graph that is drawn as a whole
MAX_NUMBERED = 60  # nodes of a drawing that holds the numbers of groups
MAX_NAMED = 24  # and the nodes' names
MAX_LETTERS = 11  # of a name that is drawn; the rest is in its tooltip
MAX_MEMBERS = 12  # of a group, and of its senders, in the drawing of a neighbourhood
WIDTH, MARGIN = 320, 24
SIDE, ROW, TOP = 100.0, 25, 32  # of a neighbourhood: from its side to the dots, and downwards


class Dot(NamedTuple):
    """One node."""

    x: float
    y: float
    name: str
    label: str  # the name, cut
    number: int  # of its group of equal nodes; 0: it is equal to no other
    # A square stands for a node that no message passing can separate from another.
    shape: Literal["circle", "square"]
    is_twin: bool  # in the edges of the first layer


class GraphDrawing(NamedTuple):
    """A whole graph; lines without an arrow go both ways."""

    width: int
    height: int
    radius: float
    dots: list[Dot]
    lines: str
    arrows: str
    has_numbers: bool
    has_names: bool


class Neighbourhood(NamedTuple):
    """Members of a group on the right, and the nodes that they receive from on the left."""

    group: Group
    width: int
    height: int
    senders: list[Dot]
    members: list[Dot]
    num_senders: int  # that there are
    lines: str


class Nodes(NamedTuple):
    """What a drawing says of each node."""

    names: Findings
    numbers: Int[np.ndarray, " nodes"]
    is_square: np.ndarray
    is_twin: np.ndarray

    def dot(self, node: int, x: float, y: float) -> Dot:
        """Return a node at its place."""
        name = visible(self.names.name_of(node))
        label = name if len(name) <= MAX_LETTERS else f"{name[: MAX_LETTERS - 1]}…"
        shape = "square" if self.is_square[node] else "circle"
        number = int(self.numbers[node])
        is_twin = bool(self.is_twin[node])
        return Dot(round(x, 1), round(y, 1), name, label, number, shape, is_twin)


def describe_nodes(found: Findings, groups: Sequence[Group]) -> Nodes:
    """Return what drawings say of the nodes."""
    numbers = np.zeros(len(found.final), np.int64)
    for group in groups:
        if group.kind != "separated":
            numbers[group.members] = group.number
    counted = (sizes_of(classes) > 1 for classes in (found.colours, found.layers[0].twins))
    return Nodes(found, numbers, *counted)


def draw_graph(found: Findings, nodes: Nodes) -> GraphDrawing:
    """Draw a whole graph of at most 150 nodes; self-loops are left out."""
    num = len(found.final)
    is_small = num <= MAX_NUMBERED
    radius = 9.5 if is_small else 4.5
    height = int(np.clip(120 + 14 * num, 200, WIDTH if is_small else 400))
    ends = np.stack([np.asarray(found.graph.senders), np.asarray(found.graph.receivers)], axis=1)
    ends = np.unique(ends, axis=0)
    box = np.array([WIDTH, height]) - 2.0 * MARGIN
    least = 2 * radius + (24 if num <= MAX_NAMED else 3)  # a name stands above its dot
    places = MARGIN + place_nodes(num, ends, box, least=least)
    code = ends[:, 0] * num + ends[:, 1]
    is_mutual = np.isin(ends[:, 1] * num + ends[:, 0], code)
    is_first = is_mutual & (ends[:, 0] < ends[:, 1])  # a self-loop is neither
    return GraphDrawing(
        WIDTH,
        height,
        radius,
        [nodes.dot(k, *places[k].tolist()) for k in range(num)],
        _lines(places[ends[is_first | ~is_mutual]]),
        _arrow_heads(places[ends[~is_mutual]], radius),
        is_small,
        num <= MAX_NAMED,
    )


def draw_neighbourhood(found: Findings, nodes: Nodes, group: Group) -> Neighbourhood:
    """Draw some members of a group, and those that most of them receive from."""
    senders, receivers = np.asarray(found.graph.senders), np.asarray(found.graph.receivers)
    is_member = np.zeros(len(found.final), bool)
    is_member[group.members] = True
    num_senders = len(np.unique(senders[is_member[receivers]]))
    members = np.array(group.members[:MAX_MEMBERS])
    edges = np.isin(receivers, members)
    ends = np.unique(np.stack([senders[edges], receivers[edges]], axis=1), axis=0)
    known, counts = np.unique(ends[:, 0], return_counts=True)
    shown = np.sort(known[np.argsort(-counts, kind="stable")[:MAX_MEMBERS]])
    ends = ends[np.isin(ends[:, 0], shown)]
    rows = max(len(members), len(shown))
    left, right = (TOP + ROW * (np.arange(len(x)) + (rows - len(x)) / 2) for x in (shown, members))
    starts = left[np.searchsorted(shown, ends[:, 0])]
    stops = right[np.searchsorted(members, ends[:, 1])]
    from_x, to_x = np.full(len(ends), SIDE), np.full(len(ends), WIDTH - SIDE)
    lines = np.stack([np.stack([from_x, starts], 1), np.stack([to_x, stops], 1)], axis=1)
    return Neighbourhood(
        group,
        WIDTH,
        TOP + ROW * rows + 14,
        [nodes.dot(int(k), SIDE, y) for k, y in zip(shown, left, strict=True)],
        [nodes.dot(int(k), WIDTH - SIDE, y) for k, y in zip(members, right, strict=True)],
        num_senders,
        _lines(lines),
    )


def _lines(ends: Float[np.ndarray, "lines 2 2"]) -> str:
    """Return lines as the path of an SVG."""
    return "".join(f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" for (a, b), (c, d) in ends.tolist())


def _arrow_heads(ends: Float[np.ndarray, "lines 2 2"], radius: float) -> str:
    """Return the heads of arrows that end at the rim of dots."""
    size = 0.75 * radius
    along = ends[:, 1] - ends[:, 0]
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    across = along[:, ::-1] * np.array([-1.0, 1.0])[None]
    tips = ends[:, 1] - radius * along
    corners = [tips, tips - size * (along - across / 2), tips - size * (along + across / 2)]
    return "".join(
        f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}L{e:.1f} {f:.1f}Z"
        for a, b, c, d, e, f in np.concatenate(corners, axis=1).tolist()
    )
