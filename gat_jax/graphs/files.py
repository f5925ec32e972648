"""Graphs in `.npz` files: what each array has to be (docs/data_format.md), checked one by one."""

from pathlib import Path
from typing import NamedTuple

import jraph
import numpy as np
from jaxtyping import Float, Int

from gat_jax.graphs import archives, build
from gat_jax.graphs.splits import Splits, check_splits, splits_from_ids
from gat_jax.runtime.arrays import (
    check_integers,
    check_range,
    check_size,
    check_values,
    check_whole_numbers,
    shown,
)

ARRAYS = (
    *("senders", "receivers"),
    *("feat_indptr", "feat_indices", "feat_data", "feat_shape"),
    *("labels", "labelled"),
)
MASKS = ("train_masks", "val_masks", "test_masks")
IDS = ("train_idx", "val_idx", "test_idx")
MAX_CLASSES = 2**16  # or as many as there are nodes: a class id beyond is no class id


class NodeTask(NamedTuple):
    """A graph whose nodes have classes."""

    name: str
    graph: jraph.GraphsTuple
    labels: Int[np.ndarray, " nodes"] | None  # class ids, -1 = unlabelled; None: there are none
    splits: Splits | None = None  # which nodes are for training and for what else, if that is known


def read_npz(path: Path) -> NodeTask:
    """Read one graph from an `.npz` file, without self-loops and with raw features.

    Args:
      path: file with `senders` and `receivers` [E] (both directions),
        `feat_indptr`, `feat_indices`, `feat_data`, `feat_shape` (features as CSR), `labels` [N]
        and `labelled` [N]; `num_nodes`, where it is there, has to agree. Splits, where there are
        some, are `train_masks`, `val_masks` and `test_masks` [S, N], or one of them is the ids
        `train_idx`, `val_idx` and `test_idx`, which are not looked at beside masks. No pickle is
        read.

    Returns:
      The task, whose name is the file's stem.

    Raises:
      ValueError: names the file and what is wrong with it.
    """
    check_name(path.name)
    arrays = archives.read_arrays(path, ARRAYS, optional=["num_nodes", *MASKS, *IDS])
    try:
        nodes = dense_features(arrays)
        _check_num_nodes(arrays, len(nodes))
        graph = build.from_edges(arrays["senders"], arrays["receivers"], nodes=nodes)
        labels = _labels(arrays["labels"], arrays["labelled"], len(nodes))
        splits = _splits(arrays, labels)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return NodeTask(path.stem, graph, labels, splits)


def check_name(name: str) -> None:
    """Refuse the name of a graph, or of its file, under which no results could be written.

    Raises:
      ValueError: if there are bytes in it that are no UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"graph: expected a name in UTF-8, got {name!a}") from error


def _check_num_nodes(arrays: dict[str, np.ndarray], num_nodes: int) -> None:
    if "num_nodes" in arrays:
        given = check_whole_numbers("num_nodes", arrays["num_nodes"])
        if given.size != 1 or given.item() != num_nodes:
            raise ValueError(
                f"num_nodes: expected {num_nodes} as in feat_shape, got {shown(given.tolist())}"
            )


def dense_features(arrays: dict[str, np.ndarray]) -> Float[np.ndarray, "nodes features"]:
    """Return the CSR matrix as a dense one; entries that occur twice are added up, as in SciPy."""
    num_nodes, num_features = _shape(arrays["feat_shape"])
    check_size("feat_shape", 4 * num_nodes * num_features)
    starts, columns = _row_starts(arrays["feat_indptr"], num_nodes), arrays["feat_indices"]
    for field in ("feat_indices", "feat_data"):
        if arrays[field].shape != (starts[-1],):
            raise ValueError(
                f"{field}: expected {starts[-1]} entries, as feat_indptr ends, got shape "
                f"{arrays[field].shape}"
            )
    if columns.size:  # no columns may have any dtype
        check_integers("feat_indices", columns)
        check_range("feat_indices", columns, num_features, "columns")
    data = check_values("feat_data", arrays["feat_data"])
    rows = np.repeat(np.arange(num_nodes), np.diff(starts))
    places = rows * num_features + columns.astype(np.int64)
    if (np.diff(places) <= 0).any():  # columns in another order, or twice
        places, index = np.unique(places, return_inverse=True)
        data = check_values("feat_data", np.bincount(index, weights=data))
    nodes = np.zeros((num_nodes, num_features), np.float32)
    with np.errstate(over="ignore"):  # where float64 is on: infinity is refused with the nodes
        nodes.reshape(-1)[places] = data
    return nodes


def _row_starts(indptr: np.ndarray, num_nodes: int) -> Int[np.ndarray, " starts"]:
    if indptr.shape != (num_nodes + 1,):
        raise ValueError(f"feat_indptr: expected {num_nodes + 1} entries, got shape {indptr.shape}")
    check_integers("feat_indptr", indptr)
    check_range("feat_indptr", indptr, 2**63, "starts of rows")
    starts = indptr.astype(np.int64)  # differences of unsigned numbers are never negative
    if starts[0] != 0 or (np.diff(starts) < 0).any():
        row = int(np.argmax(np.diff(starts) < 0)) if starts[0] == 0 else -1
        raise ValueError(
            f"feat_indptr: expected starts of rows that rise from 0, got {starts[row + 1]} at "
            f"[{row + 1}]"
        )
    return starts


def _shape(feat_shape: np.ndarray) -> tuple[int, int]:
    if feat_shape.shape != (2,):
        raise ValueError(f"feat_shape: expected two numbers, got shape {feat_shape.shape}")
    check_integers("feat_shape", feat_shape)
    if feat_shape.min() < 1:
        raise ValueError(
            f"feat_shape: expected at least one node and one feature, got {feat_shape.tolist()}"
        )
    num_nodes, num_features = feat_shape.tolist()
    return num_nodes, num_features


def _labels(labels: np.ndarray, labelled: np.ndarray, num_nodes: int) -> Int[np.ndarray, " nodes"]:
    """Return class ids, -1 where a node has none."""
    for field, values in (("labels", labels), ("labelled", labelled)):
        if values.shape != (num_nodes,):
            raise ValueError(f"{field}: expected shape ({num_nodes},), got {values.shape}")
    is_labelled = check_whole_numbers("labelled", labelled)
    if not np.isin(is_labelled, (0, 1)).all():
        raise ValueError(
            f"labelled: expected true or false, got {is_labelled[~np.isin(is_labelled, (0, 1))][0]}"
        )
    known = labels.copy()
    known[is_labelled == 0] = 0  # anything may stand there
    classes = check_whole_numbers("labels", known)
    check_range("labels", classes, max(num_nodes, MAX_CLASSES), "class ids")
    return np.where(is_labelled == 1, classes, -1).astype(np.int32)


def _splits(arrays: dict[str, np.ndarray], labels: Int[np.ndarray, " nodes"]) -> Splits | None:
    """Return the splits as masks or, where there are none, as ids; None where nothing is there."""
    for fields, read in ((MASKS, check_splits), (IDS, splits_from_ids)):
        there = [field for field in fields if field in arrays]
        if there:
            missing = next((field for field in fields if field not in arrays), None)
            if missing is not None:
                raise ValueError(f"{missing}: expected it beside {there[0]}, got no such array")
            return read([arrays[field] for field in fields], labels, fields=fields)
    return None
