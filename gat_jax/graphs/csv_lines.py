"""Tables (CSV) line by line: a fault is told with its file and line.

No more is read than fits into memory, whatever a compressed file unfolds to.
"""

import csv
import gzip
import io
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from gat_jax.graphs.files import MAX_CLASSES
from gat_jax.runtime.arrays import memory_limit, shown
from gat_jax.runtime.named_files import check_regular, reason_of

VALUE_BYTES = 8  # of a number while it is read
MAX_LINE = 2**24  # letters
MAX_COLUMNS = 100_000


def suffix_of(path: Path) -> str:
    """Return what a table's name ends with, less a `.gz`, which is unfolded."""
    return path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix


def read_lines(path: Path, *, delimiter: str | None = ",") -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the words of every line of a table; `.gz` is unfolded.

    Args:
      path: of a regular file of text in UTF-8.
      delimiter: between two words; None: any white space, and lines that are empty or begin with
        "#" are left out.

    Raises:
      ValueError: one line that names the file, what was expected, and after which line it failed.
    """
    number = 0
    try:
        check_regular(path)
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            if delimiter is None:
                for number, line in enumerate(_short(file), 1):
                    if line.strip() and not line.lstrip().startswith("#"):
                        yield number, line.split()
                return
            reader = csv.reader(_short(file), strict=True, delimiter=delimiter)
            for row in reader:
                number = reader.line_num
                yield number, row
    except (OSError, EOFError, ValueError, zlib.error, csv.Error) as error:
        where = f" after line {number}" if number else ""
        found = f"{reason_of(error)}{where}"
        raise ValueError(f"{path}: expected a table (CSV), got {found}") from error


def _short(file: io.TextIOBase) -> Iterator[str]:
    """Yield lines, none of which takes all of the memory."""
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise ValueError(f"a line of more than {MAX_LINE:,} letters")
        if "\0" in line:
            raise ValueError("a line with a NUL byte")
        yield line


def read_header(path: Path, lines: Iterator[tuple[int, list[str]]]) -> list[str]:
    """Return the names of the columns, from the first line; no name stands there twice."""
    _, row = next(lines, (1, []))
    names = [word.strip() for word in row]
    check_columns(path, 1, names)
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise ValueError(f"{path}: line 1: expected every column once, got {shown(repeated)} twice")
    return names


def check_columns(path: Path, number: int, row: list[str]) -> None:
    """Refuse a line that has more words than a table that is meant has columns."""
    if len(row) > MAX_COLUMNS:
        raise ValueError(
            f"{path}: line {number}: expected at most {MAX_COLUMNS:,} columns, got {len(row):,}"
        )


def check_width(path: Path, number: int, row: list[str], width: int) -> None:
    """Refuse a line that has more or fewer values than others."""
    if len(row) != width:
        raise ValueError(f"{path}: line {number}: expected {width} values, got {len(row)}")


def check_memory(path: Path, num_bytes: int, limit: int) -> None:
    """Refuse a table that takes more bytes than `memory_limit` gave, while it is read."""
    if num_bytes > limit:
        raise ValueError(f"{path}: expected at most a quarter of the memory, got a longer table")


def append_numbers(path: Path, number: int, values: array, words: list[str]) -> None:
    """Add the numbers of one line to those of the lines before."""
    try:
        values.extend(map(float, words))
    except ValueError:
        for word in words:
            try:
                float(word)
            except ValueError:
                got = shown(word)
                message = f"{path}: line {number}: expected numbers, got {got}"
                raise ValueError(message) from None


def read_numbers(path: Path, width: int | None) -> Float[np.ndarray, "lines columns"]:
    """Return a table of numbers without a header, as float64; None takes the first line's width."""
    values, count, limit = array("d"), 0, memory_limit()
    for number, row in read_lines(path):
        if width is None:
            check_columns(path, number, row)
            width = len(row)
        check_width(path, number, row, width)
        append_numbers(path, number, values, row)
        count += 1
        check_memory(path, VALUE_BYTES * len(values), limit)
    if not count or not width:
        raise ValueError(f"{path}: expected a table (CSV), got an empty one")
    return np.array(values).reshape(count, width)


def read_ids(path: Path, width: int, num_nodes: int) -> Int[np.ndarray, "lines columns"]:
    """Return a table of node ids without a header; it may be empty."""
    values, limit = array("q"), memory_limit()
    for number, row in read_lines(path):
        check_width(path, number, row, width)
        for word in row:
            is_number = word.isascii() and word.isdecimal() and len(word) < 19
            if not is_number or int(word) >= num_nodes:
                raise ValueError(
                    f"{path}: line {number}: expected ids in [0, {num_nodes}), got {shown(word)}"
                )
            values.append(int(word))
        check_memory(path, VALUE_BYTES * len(values), limit)
    return np.array(values, np.int64).reshape(-1, width)


def held_features(
    path: Path, table: Float[np.ndarray, "rows columns"], *, first_line: int
) -> Float[np.ndarray, "rows columns"]:
    """Return features as float32, if it holds them (`runtime.arrays`); else name the line."""
    with np.errstate(over="ignore"):
        features = table.astype(np.float32)
    is_rounded = (np.trunc(table) == table) & (features != table) & (np.abs(table) < 2**53)
    for wanted, is_bad in (
        ("finite numbers of float32", ~np.isfinite(features)),
        ("whole numbers that float32 holds (it keeps 24 bits; shift or scale them)", is_rounded),
    ):
        if is_bad.any():
            row, column = np.argwhere(is_bad)[0]
            raise ValueError(
                f"{path}: line {row + first_line}: expected {wanted}, got {table[row, column]}"
            )
    return features


def check_classes(
    path: Path, classes: Int[np.ndarray, " nodes"], written: np.ndarray, *, first_line: int
) -> Int[np.ndarray, " nodes"]:
    """Return class ids as int32, -1 where there is none; else name the line and what is there."""
    limit = max(len(classes), MAX_CLASSES)
    is_bad = (classes < -1) | (classes >= limit)
    if is_bad.any():
        row = int(np.argmax(is_bad))
        raise ValueError(
            f"{path}: line {row + first_line}: expected class ids in [0, {limit}), got "
            f"{written[row]}"
        )
    return classes.astype(np.int32)
