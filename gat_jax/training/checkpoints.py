"""Checkpoints of chunks that are under way, written and read by Orbax.

One that is whole has its final name, whatever killed the process that wrote others: Orbax writes
beside it and renames. The name says how many records the chunk has made. A checksum lies in it, so
that one that is damaged is left alone: Orbax would tell of it from its own threads.
"""

import contextlib
import hashlib
import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gat_jax.training.seeds import Progress

CHECKSUM = "gat_jax.sha256"  # of all other files of a checkpoint


def save(folder: Path, name: str, progress: Progress) -> None:
    """Write a checkpoint in the place of those that the chunk has.

    Args:
      folder: of all checkpoints of a store.
      name: of the chunk.
      progress: with at least one record.
    """
    import orbax.checkpoint as ocp  # takes a second

    history = progress.history()
    tree = {"state": progress.state, "history": history}
    target = folder.absolute() / f"{name}.{history.step.shape[1]}"
    older = [path for path in folder.glob(f"{name}.*") if path != target]
    with _quiet(), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(target, jax.tree.map(np.asarray, tree), force=True)
        checkpointer.wait_until_finished()
    (target / CHECKSUM).write_text(_checksum(target), encoding="utf-8")
    for path in older:
        shutil.rmtree(path, ignore_errors=True)


def load(folder: Path, name: str, example: Progress) -> Progress | None:
    """Return the progress of a chunk; None: there is no checkpoint of it that can be read.

    Args:
      folder: of all checkpoints of a store.
      name: of the chunk.
      example: the progress of such a chunk after some records, of arrays or of their shapes.
    """
    import orbax.checkpoint as ocp

    found = [
        (int(number), path)
        for path in folder.glob(f"{name}.*")
        if (number := path.name.removeprefix(f"{name}.")).isdecimal() and _is_whole(path)
    ]
    if not found:
        return None
    number, path = max(found)

    def of_length(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((x.shape[0], number, *x.shape[2:]), x.dtype)

    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), example.state)
    history = jax.tree.map(of_length, example.records[0])
    try:
        with _quiet(), ocp.StandardCheckpointer() as checkpointer:
            tree = checkpointer.restore(path.absolute(), {"state": shapes, "history": history})
    except Exception:  # whatever is wrong with it, the chunk can be computed from its beginning
        shutil.rmtree(path, ignore_errors=True)
        return None
    return Progress(tree["state"], (tree["history"],), np.array(number, np.int32))


def remove(folder: Path, name: str) -> None:
    """Remove the checkpoints of a chunk that is stored."""
    for path in folder.glob(f"{name}.*"):
        shutil.rmtree(path, ignore_errors=True)


def _is_whole(path: Path) -> bool:
    try:
        return (path / CHECKSUM).read_text(encoding="utf-8") == _checksum(path)
    except (OSError, UnicodeDecodeError):
        return False


def _checksum(path: Path) -> str:
    found = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        if file.name != CHECKSUM:
            content = file.read_bytes()
            found.update(f"{file.relative_to(path).as_posix()} {len(content)};".encode())
            found.update(content)
    return found.hexdigest()


@contextlib.contextmanager
def _quiet():
    """Keep what Orbax tells its developers out of a command's lines."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
