"""What is trained on: a graph, its labels, which nodes count where, and the twins to watch."""

import dataclasses
from typing import NamedTuple

import jax
import jax.core
import jraph
import numpy as np
from jaxtyping import Array, Bool, Int

from gat_jax.graphs import TwinClasses, TwinPairs, padding_masks
from gat_jax.kernels import Layout, LayoutName, SparseFeatures, layouts, sparse
from gat_jax.layers import EdgeMask, check_edge_mask
from gat_jax.layers.norms import NodeMask
from gat_jax.runtime.jax_arrays import check_array
from gat_jax.symmetry import check_pairs_exist
from gat_jax.training.watched import Watched, watch


class TrainTask(NamedTuple):
    """What is trained on: one graph, its labels, and the twins to watch."""

    graph: jraph.GraphsTuple
    labels: Int[Array | np.ndarray, " nodes"]  # class ids; where the mask is False, anything
    label_mask: Bool[Array | np.ndarray, " nodes"]  # True = in the loss; such a node has a class
    pairs: TwinPairs  # non-trivial ones: trivial twins are equal whatever happens
    layout: Layout | None = None  # of the graph's edges; None: the edge list
    edge_mask: EdgeMask | None = None  # True = real; None: all are
    # True = looked at by rules that stop a run; such a node has a class. None: there are none.
    validation_mask: Bool[Array | np.ndarray, " nodes"] | None = None
    node_mask: NodeMask | None = None  # True = real; None: all are
    watched: Watched | None = None  # what measures read; None: there are to be none


def make_task(
    graph: jraph.GraphsTuple,
    labels: Int[np.ndarray, " nodes"],
    label_mask: Bool[np.ndarray, " nodes"],
    pairs: TwinPairs,
    *,
    validation_mask: Bool[np.ndarray, " nodes"] | None = None,
    is_watched: bool = False,
    classes: TwinClasses | None = None,
    layout: LayoutName = "auto",
    keeps_dense: bool = False,
) -> TrainTask:
    """Return a task whose edges and features are laid out for speed.

    Args:
      graph: on the host; features with few non-zeros (`sparse.is_worthwhile`) become
        `sparse.SparseFeatures`. Of a padded graph only the real edges count.
      labels: [N] class ids; where the mask is False, anything, such as -1.
      label_mask: [N], True = in the loss: of real nodes that have a class.
      pairs: non-trivial twins to watch.
      validation_mask: [N], True = looked at by a rule that stops a run: of real nodes that have a
        class.
      is_watched: whether `TrainConfig.measures` are to be recorded of its runs.
      classes: of the graph's twins, where they are known already; only measures read them.
      layout: as `layouts.make_layout`.
      keeps_dense: whether features with few non-zeros stay as they are: steps take longer, and
        their program takes less time to compile.

    Raises:
      ValueError: as `layouts.make_layout`, or if labels, mask or pairs do not fit the graph.
    """
    prepared = layouts.make_layout(graph, layout)
    task = TrainTask(graph, labels, label_mask, pairs, prepared, validation_mask=validation_mask)
    task = check_task(task)
    is_dense = not isinstance(graph.nodes, SparseFeatures)
    if is_dense and not keeps_dense and sparse.is_worthwhile(graph.nodes):
        task = task._replace(graph=graph._replace(nodes=sparse.from_dense(graph.nodes)))
    if is_watched:
        watched = watch(graph, layout=prepared, edge_mask=task.edge_mask, classes=classes)
        # Measures read no features of a graph: dense ones need not be there beside the task's.
        task = task._replace(watched=dataclasses.replace(watched, graph=task.graph))
    return task


def check_task(task: TrainTask, num_classes: int | None = None) -> TrainTask:
    """Check what is not traced of a task, and return it with its padding masked.

    A label out of range would be trained towards silently, and padding be counted.

    Raises:
      ValueError: if labels, mask or pairs do not fit the graph, or the mask holds a node without a
        class, a node of padding, or no node at all.
    """
    if not isinstance(task, TrainTask):
        raise ValueError(f"task: expected one of make_task, got {type(task).__name__}")
    layouts.one_set_of(task.graph, "in training")
    _check_labels(task, num_classes)
    graph = task.graph
    counts = graph.senders, graph.receivers, graph.n_node, graph.n_edge
    if any(isinstance(array, jax.core.Tracer) for array in counts):
        return task
    is_real_n, is_real_e = padding_masks(graph)
    for field, mask in _masks(task).items():
        padding = ~is_real_n & (not isinstance(mask, jax.core.Tracer) and np.asarray(mask))
        if padding.any():
            raise ValueError(
                f"{field}: expected real nodes alone, got padding at {_first(padding)}"
            )
    if not is_real_n.all():
        task = task._replace(node_mask=is_real_n)
    if is_real_e.all():
        return task
    mask = is_real_e if task.edge_mask is None else task.edge_mask & is_real_e
    return task._replace(edge_mask=mask)


def _masks(task: TrainTask) -> dict[str, Bool[Array | np.ndarray, " nodes"]]:
    """Return the masks of nodes that a task has, by their fields."""
    fields = ("label_mask", "validation_mask")
    return {name: mask for name in fields if (mask := getattr(task, name)) is not None}


def _check_labels(task: TrainTask, num_classes: int | None) -> None:
    """Check labels, their masks and the pairs of a task."""
    num_nodes, labels = len(task.graph.nodes), task.labels
    check_array("labels", labels, "whole numbers")
    for field, mask in _masks(task).items():
        check_array(field, mask, "booleans")
    for field, array in {"labels": labels, **_masks(task)}.items():
        if array.shape != (num_nodes,):
            raise ValueError(f"{field}: expected shape {(num_nodes,)}, got {array.shape}")
    check_pairs_exist(task.pairs, num_nodes)
    check_edge_mask(task.edge_mask, len(task.graph.receivers))
    for field, mask in _masks(task).items():
        if not isinstance(labels, jax.core.Tracer) and not isinstance(mask, jax.core.Tracer):
            _check_classes(np.asarray(labels), field, np.asarray(mask), num_classes)


def _check_classes(
    labels: np.ndarray, field: str, mask: np.ndarray, num_classes: int | None
) -> None:
    """Check that a mask has nodes, and each of them a class."""
    if not mask.any():
        role = "in the loss" if field == "label_mask" else "to look at"
        raise ValueError(f"{field}: expected at least one node {role}, got none")
    most = np.inf if num_classes is None else num_classes
    is_bad = mask & ((labels < 0) | (labels >= most))
    if is_bad.any():
        node = _first(is_bad)
        expected = "classes >= 0" if num_classes is None else f"classes in [0, {num_classes})"
        found = f"{labels[node]} at node {node}"
        raise ValueError(f"labels: expected {expected} where {field} is True, got {found}")


def _first(is_there: np.ndarray) -> int:
    return int(np.argmax(is_there))
