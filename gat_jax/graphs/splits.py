"""Which nodes of a graph a training learns from, which decide when it stops, which it is judged by.

A data set may have several such divisions of its nodes; each of them is called a *split*.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

from gat_jax.runtime.arrays import (
    as_array,
    check_integers,
    check_range,
    check_size,
    check_whole_numbers,
)

PARTS = ("train", "validation", "test")


class Splits(NamedTuple):
    """Divisions of the nodes of a graph, one row each; a node may be in no part of a split."""

    train: Bool[np.ndarray, "splits nodes"]  # the loss is of these
    validation: Bool[np.ndarray, "splits nodes"]  # these choose steps and settings
    test: Bool[np.ndarray, "splits nodes"]  # these are looked at once, at the end


def check_splits(
    splits: Sequence[ArrayLike], labels: ArrayLike | None, *, fields: Sequence[str] = PARTS
) -> Splits:
    """Return splits as truth values, if they are some of the labelled nodes of a graph.

    Args:
      splits: `Splits`, or three matrices in its order, each [S, N] with S >= 1: truth values, or
        whole numbers 0 and 1.
      labels: [N] class ids, -1 where a node has none; None, where no node has one, fits no splits.
      fields: what an error calls the three matrices.

    Raises:
      ValueError: names the matrix, what was expected and what came: another shape, other numbers, a
        part without nodes, a node without a label, or a node in two parts of one split.
    """
    known = _is_labelled(labels)
    masks = [
        _check_mask(field, mask, len(known)) for field, mask in zip(fields, splits, strict=True)
    ]
    for k, (field, mask) in enumerate(zip(fields, masks, strict=True)):
        if len(mask) != len(masks[0]):
            raise ValueError(
                f"{field}: expected {len(masks[0])} splits as in {fields[0]}, got {len(mask)}"
            )
        is_empty = ~mask.any(axis=1)
        if is_empty.any():
            raise ValueError(
                f"{field}: expected nodes in every split, got none in split {np.argmax(is_empty)}"
            )
        _refuse_place(field, "nodes with a label", mask & ~known[None])
        for other, earlier in zip(fields[:k], masks[:k], strict=True):
            _refuse_place(field, f"no node of {other}", mask & earlier)
    return Splits(*masks)


def splits_from_ids(
    ids: Sequence[ArrayLike], labels: ArrayLike | None, *, fields: Sequence[str] = PARTS
) -> Splits:
    """Return one split from the ids of the nodes in its parts.

    Args:
      ids: three vectors of integers, of `train`, `validation` and `test`, each id at most once.
      labels: [N], as in `check_splits`.
      fields: what an error calls the three vectors.

    Returns:
      Checked splits with S = 1.

    Raises:
      ValueError: if there is no vector of ids in [0, N), an id occurs twice, or as `check_splits`.
    """
    num_nodes = len(_is_labelled(labels))
    masks = []
    for field, values in zip(fields, ids, strict=True):
        array = as_array(field, values)
        if array.ndim != 1:
            raise ValueError(f"{field}: expected a vector of node ids, got shape {array.shape}")
        if array.size:  # an empty list has no integer dtype
            check_integers(field, array)
            check_range(field, array, num_nodes, "ids")
        unique, counts = np.unique(array, return_counts=True)
        if (counts > 1).any():
            raise ValueError(
                f"{field}: expected every node once, got {unique[counts > 1][0]} several times"
            )
        mask = np.zeros((1, num_nodes), bool)
        mask[0, unique.astype(np.int64)] = True
        masks.append(mask)
    return check_splits(masks, labels, fields=fields)


def _is_labelled(labels: ArrayLike | None) -> Bool[np.ndarray, " nodes"]:
    if labels is None:
        raise ValueError("labels: expected some for the nodes of splits, got none")
    return as_array("labels", labels) >= 0


def _check_mask(field: str, values: ArrayLike, num_nodes: int) -> Bool[np.ndarray, "splits nodes"]:
    mask = as_array(field, values)
    if mask.ndim != 2 or mask.shape[1] != num_nodes or len(mask) == 0:
        raise ValueError(f"{field}: expected shape [splits, {num_nodes}], got {list(mask.shape)}")
    if mask.dtype == bool:
        return mask
    check_size(field, 8 * mask.size)
    numbers = check_whole_numbers(field, mask)
    is_bad = ~np.isin(numbers, (0, 1))
    if is_bad.any():
        raise ValueError(f"{field}: expected true or false, got {numbers[is_bad][0]}")
    return numbers == 1


def _refuse_place(field: str, wanted: str, is_bad: Bool[np.ndarray, "splits nodes"]) -> None:
    """Raise a ValueError that names the first bad node, if there is one."""
    if is_bad.any():
        split, node = np.argwhere(is_bad)[0]
        raise ValueError(f"{field}: expected {wanted}, got node {node} in split {split}")
