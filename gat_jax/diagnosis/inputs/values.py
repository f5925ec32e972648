"""Files with a row for each node: features and labels, in the order of ids or beside their ids."""

import itertools
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gat_jax.graphs import archives
from gat_jax.graphs.csv_lines import (
    VALUE_BYTES,
    append_numbers,
    check_classes,
    check_columns,
    check_memory,
    check_width,
    held_features,
    read_lines,
    suffix_of,
)
from gat_jax.graphs.files import MAX_CLASSES, dense_features
from gat_jax.graphs.tables import NAME_BYTES
from gat_jax.runtime.arrays import (
    check_features,
    check_range,
    check_whole_numbers,
    memory_limit,
    shown,
)

DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
IDS = ("id", "node", "node_id", "name", "index")  # names of a column of ids; or none at its head
LABELS = ("label", "labels", "class", "y")
CSR = ("feat_indptr", "feat_indices", "feat_data", "feat_shape")
SCIPY_CSR = ("indptr", "indices", "data", "shape")  # of scipy.sparse.save_npz
ARRAY, ARRAYS = "an array as .npy", "arrays as .npz"


class Rows(NamedTuple):
    """Ids of the nodes to which rows belong, with the first line of the table."""

    path: Path
    ids: list[str] | None  # None: row k belongs to node k
    first_line: int = 1


class Features(NamedTuple):
    """Features, one row for each node."""

    rows: Rows
    values: Float[np.ndarray, "nodes features"]


class Labels(NamedTuple):
    """Classes, one for each row; -1 = unlabelled."""

    rows: Rows
    classes: Int[np.ndarray, " rows"]
    names: tuple[str, ...] | None  # of the classes; None: they are called by their numbers


# --- features -----------------------------------------------------------------------------------


def read_features(path: Path) -> Features:
    """Read features: a matrix, or a table that may have a header and a column of ids.

    A first line of numbers is no header. Where one of its words is an id's name (`IDS`, or nothing
    at the very beginning), it is a header with a column of ids; where the first word alone is no
    number, there are ids in the first column and no header.

    Args:
      path: of an `.npy` matrix; of an `.npz` with one matrix, with `x` or `features`, or with a
        sparse matrix as data files have it (`feat_data` and so on) or as `scipy.sparse.save_npz`
        writes it (CSR); or of a table in CSV or TSV (`.gz` is unfolded).

    Raises:
      ValueError: one line with the file, the line, what was expected and what came.
    """
    if path.suffix == ".npy":
        array = archives.read_array(path, what=ARRAY)
        return Features(Rows(path, None), check_features(str(path), array))
    if path.suffix == ".npz":
        return Features(Rows(path, None), _features_of_archive(path))
    return _read_feature_table(path, _delimiter(path, "features", ".npy, .npz, .csv or .tsv"))


def _features_of_archive(path: Path) -> Float[np.ndarray, "nodes features"]:
    stored = archives.array_names(path, what=ARRAYS)
    for names in (CSR, SCIPY_CSR):
        if set(names) <= set(stored):
            found = archives.read_arrays(path, names, optional=["format"], what=ARRAYS)
            if found.get("format", np.array("csr")).tolist() not in ("csr", b"csr"):
                got = shown(found["format"].tolist())
                raise ValueError(f"{path}: format: expected csr, got {got}")
            try:
                return dense_features(
                    {new: found[name] for new, name in zip(CSR, names, strict=True)}
                )
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
    name = _chosen(path, stored, ("x", "features"))
    return check_features(f"{path}: {name}", _one(path, name))


def _chosen(path: Path, stored: list[str], known: Sequence[str]) -> str:
    """Return which array of an archive is meant: the only one, or the one with a known name."""
    found = stored if len(stored) == 1 else [name for name in known if name in stored]
    if len(found) != 1:
        names = shown(", ".join(stored))
        raise ValueError(f"{path}: expected one array, or one named {known[0]}, got {names}")
    return found[0]


def _one(path: Path, name: str) -> np.ndarray:
    return archives.read_arrays(path, [name], what=ARRAYS)[name]


def _read_feature_table(path: Path, delimiter: str) -> Features:
    lines = read_lines(path, delimiter=delimiter)
    number, first = next(lines, (1, []))
    check_columns(path, number, first)
    has_header, id_place = _layout(first)
    lines = lines if has_header else _with_first(number, first, lines)
    places = [k for k in range(len(first)) if k != id_place]
    values, limit = array("d"), memory_limit()
    index: dict[str, None] = {}
    count = 0
    for number, row in lines:
        check_width(path, number, row, len(first))
        if id_place is not None:
            _add_id(path, number, index, row[id_place].strip())
        append_numbers(path, number, values, [row[k] for k in places])
        count += 1
        check_memory(path, VALUE_BYTES * len(values) + NAME_BYTES * len(index), limit)
    if not count or not places:
        raise ValueError(f"{path}: expected a row of features for each node, got none")
    first_line = 2 if has_header else 1
    table = np.array(values, np.float64).reshape(count, len(places))
    rows = Rows(path, None if id_place is None else list(index), first_line)
    return Features(rows, held_features(path, table, first_line=first_line))


def _layout(first: list[str]) -> tuple[bool, int | None]:
    """Return whether the first line of a table is a header, and which column holds ids."""
    words = [word.strip() for word in first]
    is_number = [_is_number(word) for word in words]
    if all(is_number):
        return False, None
    place = _id_place(words)
    if place is not None:
        return True, place
    if len(words) > 1 and all(is_number[1:]):
        return False, 0
    return True, None


def _id_place(words: list[str]) -> int | None:
    """Return which column of a header holds ids: one of a known name, or the first without one."""
    names = enumerate(word.lower() for word in words)
    return next((k for k, name in names if name in IDS or (name == "" and k == 0)), None)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _with_first(
    number: int, first: list[str], lines: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    """Return the first line once more, and then all others; nothing of an empty file."""
    return itertools.chain([(number, first)] if first else [], lines)


def _add_id(path: Path, number: int, index: dict[str, None], word: str) -> None:
    if not word:
        raise ValueError(f"{path}: line {number}: expected the id of a node, got nothing")
    if word in index:
        raise ValueError(f"{path}: line {number}: expected every id once, got {shown(word)} again")
    index[word] = None


def _delimiter(path: Path, field: str, wanted: str) -> str:
    kind = suffix_of(path)
    if kind not in DELIMITERS:
        raise ValueError(f"{field}: expected a file {wanted}, got {path}")
    return DELIMITERS[kind]


# --- labels -------------------------------------------------------------------------------------


def read_labels(path: Path) -> Labels:
    """Read classes: numbers or names; -1, nothing or NaN says that a node has none.

    Names are numbered in their order.

    Args:
      path: of an `.npy` vector; of an `.npz` with one vector, with `labels` or with `y`; of a text
        with one label in each line; or of a table in CSV or TSV whose columns are, with or without
        a header, the label, or the id and the label. Under a header with `label` there may be other
        columns, which are not looked at.

    Raises:
      ValueError: one line with the file, the line, what was expected and what came.
    """
    if path.suffix in (".npy", ".npz"):
        if path.suffix == ".npy":
            values = archives.read_array(path, what=ARRAY)
        else:
            stored = archives.array_names(path, what=ARRAYS)
            values = _one(path, _chosen(path, stored, ("labels", "y")))
        return labels_of_array(path, values)
    delimiter = _delimiter(path, "labels", ".npy, .npz, .csv, .tsv or .txt")
    return _read_label_table(path, delimiter)


def labels_of_array(path: Path, values: np.ndarray) -> Labels:
    """Return the classes of a vector [N] or [N, 1] of numbers or names, as `read_labels`."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"{path}: expected one label for each node, got shape {values.shape}")
    if values.dtype.kind in "US":
        words = [w.decode("utf-8", "replace") if isinstance(w, bytes) else w for w in values]
        return _classes(Rows(path, None), [str(word).strip() for word in words])
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), -1, values)
    classes = check_whole_numbers(str(path), values)
    check_range(str(path), classes[classes != -1], max(len(classes), MAX_CLASSES), "class ids")
    return Labels(Rows(path, None), classes, None)


def _read_label_table(path: Path, delimiter: str) -> Labels:
    lines = read_lines(path, delimiter=delimiter)
    number, first = next(lines, (1, []))
    check_columns(path, number, first)
    names = [word.strip().lower() for word in first]
    label = next((k for k, name in enumerate(names) if name in LABELS), None)
    has_header = label is not None
    if has_header:
        id_place = _id_place(names)
    elif len(first) in (1, 2):
        label, id_place = len(first) - 1, (0 if len(first) == 2 else None)
    else:
        got = shown(",".join(first))
        raise ValueError(f"{path}: line 1: expected a column label, or id and label, got {got}")
    lines = lines if has_header else _with_first(number, first, lines)
    index: dict[str, None] = {}
    words, limit = [], memory_limit()
    for number, row in lines:
        row = row or [""]  # an empty line of a single column
        check_width(path, number, row, len(first))
        if id_place is not None:
            _add_id(path, number, index, row[id_place].strip())
        words.append(row[label].strip())
        check_memory(path, NAME_BYTES * (len(index) + len(words)), limit)
    rows = Rows(path, None if id_place is None else list(index), 2 if has_header else 1)
    return _classes(rows, words)


def _classes(rows: Rows, words: list[str]) -> Labels:
    """Return classes of words: class ids if all are numbers, else names in their order."""
    known = sorted({word for word in words if word not in ("", "-1") and word.lower() != "nan"})
    numbers = {word: word.removesuffix(".0") for word in known}  # as pandas writes beside gaps
    names = None
    if all(word.isascii() and word.isdecimal() and len(word) < 19 for word in numbers.values()):
        classes = {word: int(number) for word, number in numbers.items()}
    else:
        classes, names = {word: k for k, word in enumerate(known)}, tuple(known)
    found = np.array([classes.get(word, -1) for word in words], np.int64)
    found = check_classes(rows.path, found, found, first_line=rows.first_line)
    return Labels(rows, found.astype(np.int64), names)
