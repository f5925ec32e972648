"""The raw files of Planetoid: Cora, Citeseer and Pubmed as most papers train on them.

A data set NAME is eight files `ind.NAME.*` of one folder. `allx` and `ally` are features and
classes of the first nodes, `x` and `y` those of the nodes to train on, which come first among them;
`tx` and `ty` are those of the nodes to test on, in the order of the ids in `test.index`; `graph`
holds the neighbours of every node.

Source: Yang, Cohen and Salakhutdinov, "Revisiting semi-supervised learning with graph embeddings",
2016; validation nodes as in Kipf and Welling, "Semi-supervised classification with graph
convolutional networks", 2017.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from gat_jax.graphs import build, pickles
from gat_jax.graphs.files import NodeTask, check_name
from gat_jax.graphs.splits import splits_from_ids
from gat_jax.runtime.arrays import check_range, check_size, check_values, shown
from gat_jax.runtime.named_files import read_text

NUM_VALIDATION = 500
MATRICES, ARRAYS = ("x", "tx", "allx"), ("y", "ty", "ally")
PREFIX, INDEX = "ind.", ".test.index"
PAIRS = (("x", "y"), ("tx", "ty"), ("allx", "ally"))


def names_of(folder: Path) -> list[str]:
    """Return the names of Planetoid's data sets in a folder, in their order."""
    ends = [*(f".{part}" for part in (*MATRICES, *ARRAYS, "graph")), INDEX]
    return sorted(
        {
            path.name.removeprefix(PREFIX).removesuffix(end)
            for end in ends
            for path in folder.glob(f"{PREFIX}*{end}")
        }
    )


def is_planetoid(path: Path) -> bool:
    """Return whether a path is one for `read_planetoid`: a folder, or `ind.NAME` in one."""
    if os.path.isdir(path):  # which is False where `Path.is_dir` fails: for a name that is too long
        return bool(names_of(path))
    return path.name.startswith(PREFIX) and path.name.removeprefix(PREFIX) in names_of(path.parent)


def read_planetoid(path: Path) -> NodeTask:
    """Read a data set of Planetoid's from its raw files, as for transductive learning.

    Edges run both ways; self-loops and repeated edges of the files are left out. Ids between the
    others that no file describes (Citeseer has 15) become nodes with zero features, without a
    class, in no split. Features are as they are stored, not normalised.

    Args:
      path: of a folder with one data set, or `FOLDER/ind.NAME` where there are several.

    Returns:
      The task with one split: the first nodes, as many as `y` has rows, to train on; the next 500
      for validation; those of `test.index` to test on.

    Raises:
      ValueError: names the file and what is wrong with it.
    """
    folder, name = _found(path)
    check_name(name)
    start = folder / f"{PREFIX}{name}"
    parts = {part: _read(start, part) for part in (*MATRICES, *ARRAYS)}
    _check_shapes(start, parts)
    test = _test_ids(Path(f"{start}{INDEX}"), len(parts["ally"]), len(parts["ty"]))
    num_nodes = max(len(parts["ally"]), int(test.max()) + 1)
    try:
        nodes = _features(parts, test, num_nodes)
        labels = np.full(num_nodes, -1, np.int32)
        labels[: len(parts["ally"])] = _classes("ally", parts["ally"])
        labels[test] = _classes("ty", parts["ty"])
        num_train = len(parts["y"])
        ids = [np.arange(num_train), np.arange(num_train, num_train + NUM_VALIDATION), test]
        splits = splits_from_ids(ids, labels)
    except ValueError as error:
        raise ValueError(f"{start}.*: {error}") from error
    graph_path = Path(f"{start}.graph")
    senders, receivers = _edges(graph_path, num_nodes)
    return NodeTask(name, build.from_edges(senders, receivers, nodes=nodes), labels, splits)


def _found(path: Path) -> tuple[Path, str]:
    """Return the folder and the name of a data set."""
    if path.name.startswith(PREFIX) and not os.path.isdir(path):
        return path.parent, path.name.removeprefix(PREFIX)
    names = names_of(path)
    if len(names) != 1:
        got = f"{', '.join(names)}; {path}/{PREFIX}{names[0]} is one of them" if names else "none"
        raise ValueError(f"{path}: expected one data set {PREFIX}NAME.*, got {got}")
    return path, names[0]


def _read(start: Path, part: str) -> Any:
    """Return a matrix or an array of two dimensions."""
    path = Path(f"{start}.{part}")
    value: Any = pickles.read_pickle(path)
    shape = getattr(value, "shape", ())
    if isinstance(value, np.ndarray) != (part in ARRAYS) or len(shape) != 2 or 0 in shape:
        kind = "a CSR matrix" if part in MATRICES else "an array [rows, classes]"
        got = f"{type(value).__name__} of shape {shape}" if shape else type(value).__name__
        raise ValueError(f"{path}: expected {kind}, got {got}")
    return value


def _check_shapes(start: Path, parts: dict[str, Any]) -> None:
    """Check that features and classes have as many rows, and all of them as many columns."""
    for matrix, array in PAIRS:
        if parts[matrix].shape[0] != len(parts[array]):
            raise ValueError(
                f"{start}.{array}: expected {parts[matrix].shape[0]} rows as in {matrix}, got "
                f"{len(parts[array])}"
            )
    for kind in (MATRICES, ARRAYS):
        for part in kind[:2]:
            if parts[part].shape[1] != parts[kind[2]].shape[1]:
                raise ValueError(
                    f"{start}.{part}: expected {parts[kind[2]].shape[1]} columns as in {kind[2]}, "
                    f"got {parts[part].shape[1]}"
                )
    num_first = len(parts["y"]) + NUM_VALIDATION
    if len(parts["ally"]) < num_first:
        raise ValueError(
            f"{start}.ally: expected at least {num_first} rows, {NUM_VALIDATION} more than in y, "
            f"got {len(parts['ally'])}"
        )


def _test_ids(path: Path, first: int, num_ids: int) -> Int[np.ndarray, " ids"]:
    """Return the ids of the nodes to test on, which stand behind all others."""
    ids = []
    for number, line in enumerate(read_text("graph", path).splitlines(), 1):
        word = line.strip()
        if not (word.isascii() and word.isdecimal() and len(word) < 10):
            raise ValueError(f"{path}: line {number}: expected a node id, got {shown(word)}")
        ids.append(int(word))
    if len(ids) != num_ids:
        raise ValueError(f"{path}: expected {num_ids} ids as ty has rows, got {len(ids)}")
    if min(ids) < first:
        number = ids.index(min(ids)) + 1
        raise ValueError(
            f"{path}: line {number}: expected ids from {first} on, which are not in allx, got "
            f"{min(ids)}"
        )
    return np.array(ids, np.int64)


def _features(
    parts: dict[str, Any], test: Int[np.ndarray, " ids"], num_nodes: int
) -> Float[np.ndarray, "nodes features"]:
    num_features = parts["allx"].shape[1]
    check_size("allx", 8 * num_nodes * num_features)
    nodes = np.zeros((num_nodes, num_features), np.float32)
    for part, rows in (("allx", slice(0, parts["allx"].shape[0])), ("tx", test)):
        nodes[rows] = check_values(part, parts[part].toarray())
    return nodes


def _classes(part: str, array: np.ndarray) -> Int[np.ndarray, " rows"]:
    """Return the column of the one in every row, -1 where a row is zero."""
    is_bad = ((array != 0) & (array != 1)).any(axis=1) | ((array == 1).sum(axis=1) > 1)
    if is_bad.any():
        row = int(np.argmax(is_bad))
        raise ValueError(f"{part}: expected zeros and at most a one in every row, got row {row}")
    return np.where(array.any(axis=1), array.argmax(axis=1), -1).astype(np.int32)


def _edges(path: Path, num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return every edge in both directions, once, without self-loops."""
    table = pickles.read_pickle(path)
    lists = list(table.values()) if isinstance(table, dict) else [table]
    if not all(isinstance(neighbours, list) for neighbours in lists):
        raise ValueError(f"{path}: expected a dictionary of lists, got another pickle")
    # A list that stands in a file once may be named many times; honest ones are named once.
    if sum(map(len, lists)) > path.stat().st_size:
        raise ValueError(f"{path}: expected a number for every neighbour, got lists named twice")
    ids = [*table, *(x for neighbours in lists for x in neighbours)]
    bad = next((x for x in ids if type(x) is not int or not 0 <= x < 2**31), None)
    if bad is not None:
        raise ValueError(f"{path}: expected node ids, got {shown(bad)}")
    ends = np.array(ids, np.int64)
    try:
        check_range("graph", ends, num_nodes, "ids")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    degrees = np.array([len(neighbours) for neighbours in lists], np.int64)
    owners = np.repeat(ends[: len(lists)], degrees)
    others = ends[len(lists) :]
    is_edge = owners != others
    both = np.concatenate([owners, others])[np.tile(is_edge, 2)]
    back = np.concatenate([others, owners])[np.tile(is_edge, 2)]
    pairs = np.unique(both * num_nodes + back)
    return pairs // num_nodes, pairs % num_nodes
