"""Edge lists of users: tables (CSV, TSV, Parquet) and words in lines, whose nodes are named."""

import itertools
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gat_jax.graphs.csv_lines import (
    MAX_COLUMNS,
    VALUE_BYTES,
    append_numbers,
    check_columns,
    check_memory,
    check_width,
    held_features,
    read_header,
    read_lines,
    suffix_of,
)
from gat_jax.graphs.tables import ENDS, NAME_BYTES
from gat_jax.report.numbers import count
from gat_jax.runtime.arrays import memory_limit, shown
from gat_jax.runtime.named_files import check_regular, reason_of

DELIMITERS = {".csv": ",", ".tsv": "\t"}
WORDS = (".edgelist", ".edges", ".txt")  # words in lines, between white space
PARQUET = (".parquet", ".pq")
MAX_NAME = 1000  # letters of an id


class Source(NamedTuple):
    """A graph as its file tells it, before other files add features and labels."""

    senders: Int[np.ndarray, " edges"]
    receivers: Int[np.ndarray, " edges"]
    num_nodes: int
    names: tuple[str, ...] | None = None  # of node k; None: nodes are called by their numbers
    edges: Float[np.ndarray, "edges columns"] | None = None
    nodes: Float[np.ndarray, "nodes features"] | None = None
    labels: Int[np.ndarray, " nodes"] | None = None  # -1 = unlabelled
    label_names: tuple[str, ...] | None = None
    # The line (in Parquet the row) on which an edge list names each node first; None: the file
    # lists its nodes, so that their order has a meaning.
    places: list[int] | None = None
    notes: tuple[str, ...] = ()


def read_edge_list(path: Path) -> Source:
    """Read a table of edges, each of them directed; nodes are numbered as they appear.

    Args:
      path: of a table with the columns `sender` and `receiver`, or `source` and `target`, in CSV or
        TSV (`.gz` is unfolded) or Parquet; all other columns are numbers, the features of edges. Or
        of a text (`WORDS`) with a sender, a receiver and perhaps numbers in each line, between
        white space; lines that begin with "#" are left out.

    Raises:
      ValueError: one line with the file, the line or row, what was expected and what came.
    """
    kind = suffix_of(path)
    if kind in PARQUET:
        return _read_parquet(path)
    if kind in DELIMITERS:
        lines = read_lines(path, delimiter=DELIMITERS[kind])
        header = read_header(path, lines)
    else:
        lines = read_lines(path, delimiter=None)
        number, first = next(lines, (1, []))
        check_columns(path, number, first)
        is_header = any(set(ends) <= set(first) for ends in ENDS)
        header = first if is_header else _names_of(path, number, first)
        lines = lines if is_header else itertools.chain([(number, first)], lines)
    return _read_rows(path, header, lines)


def _names_of(path: Path, number: int, words: list[str]) -> list[str]:
    """Return names for the columns of a list without a header, by its first line."""
    if len(words) < 2:
        raise ValueError(
            f"{path}: line {number}: expected a sender and a receiver, got {len(words)} words"
        )
    return [*ENDS[0], *(str(k) for k in range(2, len(words)))]


def _ends_of(path: Path, place: str, header: list[str]) -> tuple[str, str]:
    ends = next((ends for ends in ENDS if set(ends) <= set(header)), None)
    if ends is None:
        raise ValueError(
            f"{path}: {place}expected the columns sender,receiver or source,target, got "
            f"{shown(','.join(header))}"
        )
    return ends


def _read_rows(path: Path, header: list[str], lines: Iterator[tuple[int, list[str]]]) -> Source:
    ends = _ends_of(path, "line 1: ", header)
    send, receive = (header.index(end) for end in ends)
    others = [k for k in range(len(header)) if k not in (send, receive)]
    index: dict[str, int] = {}
    pairs, values, places, limit = array("q"), array("d"), [], memory_limit()
    for number, row in lines:
        check_width(path, number, row, len(header))
        for word in (row[send].strip(), row[receive].strip()):
            node = index.get(word)
            if node is None:
                _check_name(path, f"line {number}", word)
                node = index[word] = len(index)
                places.append(number)
            pairs.append(node)
        if others:
            append_numbers(path, number, values, [row[k] for k in others])
        num_bytes = VALUE_BYTES * (len(pairs) + len(values)) + NAME_BYTES * len(index)
        check_memory(path, num_bytes, limit)
    edges = None
    if others:
        table = np.array(values, np.float64).reshape(-1, len(others))
        edges = held_features(path, table, first_line=2)
    return _source(path, index, np.array(pairs, np.int64), edges, places, others, header)


def _check_name(path: Path, place: str, word: str) -> None:
    if not word:
        raise ValueError(f"{path}: {place}: expected the id of a node, got nothing")
    if len(word) > MAX_NAME:
        raise ValueError(
            f"{path}: {place}: expected an id of at most {MAX_NAME:,} letters, got {len(word):,}"
        )


def _source(
    path: Path,
    index: dict[str, int],
    pairs: Int[np.ndarray, " ends"],
    edges: Float[np.ndarray, "edges columns"] | None,
    places: list[int],
    others: list[int],
    header: list[str],
) -> Source:
    if not index:
        raise ValueError(f"{path}: expected at least one edge, got none")
    names = shown(", ".join(header[k] for k in others))
    columns = "column" if len(others) == 1 else "columns"
    note = f"Edges have {count(len(others), 'feature')}, the {columns} {names} of the edge list."
    return Source(
        senders=pairs[0::2],
        receivers=pairs[1::2],
        num_nodes=len(index),
        names=tuple(index),
        edges=edges,
        places=places,
        notes=(note,) if others else (),
    )


# --- Parquet ------------------------------------------------------------------------------------


def _read_parquet(path: Path) -> Source:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            f"{path}: expected pyarrow to read Parquet, got none installed; "
            "pip install 'gat_jax[tables]'"
        ) from error
    # Whatever a damaged file makes the reader raise says the same: this is no table.
    try:
        check_regular(path)
        with pyarrow.parquet.ParquetFile(path) as file:
            header = list(file.schema_arrow.names)
            num_rows = file.metadata.num_rows
            _check_parquet(file.metadata, len(header))
            columns: Any = dict(zip(header, file.read().columns, strict=True))
    except Exception as error:
        raise ValueError(f"{path}: expected a table (Parquet), got {reason_of(error)}") from error
    repeated = next((name for name in header if header.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"{path}: expected every column once, got {shown(repeated)} twice")
    ends = _ends_of(path, "", header)
    words = [_parquet_words(path, name, columns[name]) for name in ends]
    index: dict[str, int] = {}
    pairs, places = np.empty((num_rows, 2), np.int64), []
    for number, row in enumerate(zip(*words, strict=True), 1):
        for side, word in enumerate(row):
            if word not in index:
                _check_name(path, f"row {number}", word)
                index[word] = len(index)
                places.append(number)
            pairs[number - 1, side] = index[word]
    others = [k for k, name in enumerate(header) if name not in ends]
    numbers = [_parquet_numbers(path, header[k], columns[header[k]]) for k in others]
    edges = np.stack(numbers, axis=1) if numbers else None
    return _source(path, index, pairs.reshape(-1), edges, places, others, header)


def _check_parquet(metadata: Any, num_columns: int) -> None:
    """Compare what a file claims with what a machine can hold, before it is read."""
    if num_columns > MAX_COLUMNS:
        raise ValueError(f"{num_columns:,} columns, more than {MAX_COLUMNS:,}")
    unfolded = sum(metadata.row_group(k).total_byte_size for k in range(metadata.num_row_groups))
    num_bytes = max(unfolded, metadata.num_rows * (VALUE_BYTES * num_columns + 2 * NAME_BYTES))
    if num_bytes > memory_limit():
        raise ValueError(f"{num_bytes / 2**30:.3g} GiB, over a quarter of the memory")


def _parquet_words(path: Path, name: str, column: Any) -> Iterable[str]:
    """Return the ids of a column, which are text or whole numbers."""
    import pyarrow

    kind = column.type
    kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    is_text = pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)
    if not is_text and not pyarrow.types.is_integer(kind):
        raise ValueError(f"{path}: {name}: expected text or whole numbers, got {kind}")
    for number, value in enumerate(column.to_pylist(), 1):
        if value is None:
            raise ValueError(f"{path}: row {number}: expected the id of a node, got nothing")
        yield str(value).strip()


def _parquet_numbers(path: Path, name: str, column: Any) -> Float[np.ndarray, " edges"]:
    """Return a column of finite numbers as float32."""
    import pyarrow

    kind = column.type
    is_number = pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)
    if not is_number and not pyarrow.types.is_boolean(kind):
        raise ValueError(f"{path}: {name}: expected numbers, got {kind}")
    if column.null_count:
        row = column.is_null().to_pylist().index(True) + 1
        raise ValueError(f"{path}: row {row}: expected numbers, got nothing in {name}")
    table = column.to_numpy().astype(np.float64)
    return _held_column(path, table)


def _held_column(path: Path, column: Float[np.ndarray, " edges"]) -> Float[np.ndarray, " edges"]:
    return held_features(path, column[:, None], first_line=1)[:, 0]
