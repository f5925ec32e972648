"""Splits: what a training learns from, stops by and is judged by."""

import numpy as np
import pytest

from gat_jax import graphs

EYE = np.eye(4, dtype=bool)
LABELS = np.array([0, 1, 0, -1], np.int32)


def test_check_splits_returns_truth_values():
    found = graphs.check_splits([[[1, 0, 0, 0]], [[0.0, 1.0, 0.0, 0.0]], EYE[[2]]], LABELS)
    assert isinstance(found, graphs.Splits)
    for mask, node in zip(found, range(3), strict=True):
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, EYE[[node]])
    np.testing.assert_array_equal(graphs.check_splits(found, LABELS), found)


@pytest.mark.parametrize(
    ("splits", "labels", "message"),
    [
        ([EYE[:1], EYE[1:2], EYE[2:3]], None, "labels: expected some for the nodes of splits"),
        ([EYE[0], EYE[1:2], EYE[2:3]], LABELS, r"train: expected shape \[splits, 4\], got \[4\]"),
        ([EYE[:1], EYE[1:2], EYE[:0]], LABELS, r"test: expected shape .* got \[0, 4\]"),
        ([EYE[:2], EYE[1:3], EYE[2:3]], LABELS, "test: expected 2 splits as in train, got 1"),
        ([EYE[:1], EYE[:1] & False, EYE[2:3]], LABELS, "validation: .* got none in split 0"),
        ([EYE[:1], EYE[1:2], EYE[3:]], LABELS, "test: .* a label, got node 3 in split 0"),
        ([EYE[:2], EYE[1:3], EYE[[2, 1]]], LABELS, "test: expected no node of train, got node 1"),
        ([EYE[:2], EYE[[2, 1]], EYE[1:3]], LABELS, "validation: expected no node of train, got"),
        ([EYE[:2], EYE[1:3], EYE[[1, 0]]], LABELS, "of validation, got node 1 in split 0"),
    ],
)
def test_check_splits_names_what_is_wrong(splits, labels, message):
    with pytest.raises(ValueError, match=f"^{message}|{message}$"):
        graphs.check_splits(splits, labels)


def test_splits_from_ids_are_one_split():
    found = graphs.splits_from_ids([[2, 0], np.array([1], np.uint8), [3]], LABELS + 1)
    assert [np.flatnonzero(mask[0]).tolist() for mask in found] == [[0, 2], [1], [3]]
    with pytest.raises(ValueError, match="labels: expected some for the nodes of splits, got none"):
        graphs.splits_from_ids([[0], [1], [2]], None)
