"""A page to play with: a layer of attention on a small graph, with sliders and gradient descent.

The page is one file that fetches nothing, `playground.html` of the folder `report/templates` with
its style and its scripts; here is what it is given. Its arithmetic is JavaScript's, in double
precision (`playground_math.js`), and agrees with the package's.
"""

from pathlib import Path
from typing import Any

import jraph
import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from gat_jax.graphs import datasets, padding, twins
from gat_jax.report import render_page
from gat_jax.runtime import store
from gat_jax.runtime.arrays import as_array, check_integers, shown

MAX_NODES = 12
MAX_FEATURES = 12  # one slider for each of them and of two channels
MAX_EDGES = 300
NUM_CLASSES = 2


def write_playground(
    path: str | Path, graph: jraph.GraphsTuple | None = None, *, labels: ArrayLike | None = None
) -> None:
    """Write the page for a graph.

    Args:
      path: of the file, which is replaced; folders on the way are made.
      graph: at most 12 nodes with at most 12 features, without edge features and padding; at least
        two nodes are twins with two senders or more. Self-loops count as they are given. None: the
        tutorial's.
      labels: [N] classes 0 and 1 that gradient descent fits, -1 where there is none. None: the last
        member of each class of twins is 1, and all others are 0, as the tutorial's task has them.

    Raises:
      ValueError: if the graph or the labels are no such, or nothing can be written there.
    """
    path = Path(path)
    page = render_page("playground.html", data=playground_data(graph, labels))
    if path.is_dir():
        raise ValueError(f"out: expected the path of a file, got the folder {path}")
    store.check_writable(path.parent)
    with store.staged(path.parent) as folder:
        (folder / path.name).write_text(page, encoding="utf-8")


def playground_data(
    graph: jraph.GraphsTuple | None = None, labels: ArrayLike | None = None
) -> dict[str, Any]:
    """Return what the page has to know of a graph, as JSON holds it.

    Args:
      graph: as `write_playground` takes it.
      labels: likewise.

    Returns:
      `features` [N][F], `senders` and `receivers` [E], `labels` [N], `pairs` of twins that
      parameters can separate, `floor`, the lowest mean cross-entropy in nats while all twins are
      equal, and `is_tutorial`, whether it is the graph that the examples on the page speak of.

    Raises:
      ValueError: as `write_playground`.
    """
    graph = datasets.tutorial_graph() if graph is None else graph
    classes = twins.twin_classes(graph)
    _check_room(graph)
    pairs = twins.twin_pairs(classes)
    if len(pairs.first) == 0:
        raise ValueError(
            "graph: expected twins, nodes that receive from the same two senders or more, got none "
            "(self-loops decide who is a twin: try the graph with them, or without)"
        )
    chosen = _default_labels(classes) if labels is None else _checked(labels, len(graph.nodes))
    return {
        "features": np.asarray(graph.nodes, np.float64).tolist(),
        "senders": np.asarray(graph.senders).tolist(),
        "receivers": np.asarray(graph.receivers).tolist(),
        "labels": chosen.tolist(),
        "pairs": np.stack([pairs.first, pairs.second], axis=1).tolist(),
        "is_tutorial": _is_tutorial(graph),
        "floor": float(twins.loss_floor(chosen, classes.smallest)),
    }


def _check_room(graph: jraph.GraphsTuple) -> None:
    """Refuse what has no room on the page, and what its layers do not read."""
    num_nodes, num_features = np.shape(graph.nodes)
    for field, number, most in (
        ("nodes", num_nodes, MAX_NODES),
        ("features", num_features, MAX_FEATURES),
        ("edges", len(graph.senders), MAX_EDGES),
    ):
        if not 1 <= number <= most:
            raise ValueError(f"graph: expected 1 to {most} {field}, got {number}")
    if graph.edges is not None:
        raise ValueError("graph: expected no edge features, got some")
    if padding.check_one_graph(graph).num_nodes != num_nodes:
        raise ValueError("graph: expected no padding, got some")


def _is_tutorial(graph: jraph.GraphsTuple) -> bool:
    tutorial = datasets.tutorial_graph()
    fields = ("nodes", "senders", "receivers")
    return all(np.array_equal(getattr(graph, x), getattr(tutorial, x)) for x in fields)


def _default_labels(classes: twins.TwinClasses) -> Int[np.ndarray, " nodes"]:
    """Return 1 at the last member of each class of several twins, and 0 elsewhere."""
    labels = np.zeros(len(classes.twin), np.int64)
    names, sizes = np.unique(classes.twin[~classes.is_trivial], return_counts=True)
    for name in names[sizes > 1]:
        labels[np.flatnonzero(classes.twin == name)[-1]] = 1
    return labels


def _checked(labels: ArrayLike, num_nodes: int) -> Int[np.ndarray, " nodes"]:
    array = as_array("labels", labels)
    if array.shape != (num_nodes,):
        raise ValueError(f"labels: expected shape {(num_nodes,)}, got {array.shape}")
    check_integers("labels", array)
    if array.min() < -1 or array.max() >= NUM_CLASSES:
        raise ValueError(f"labels: expected classes 0 and 1, or -1, got {shown(array.tolist())}")
    if array.max() < 0:
        raise ValueError("labels: expected at least one node with a class, got none")
    return array.astype(np.int64)
