"""Results on disk: labelled arrays that change as a whole, and files replaced one by one.

A dataset is a Zarr group. `save` replaces one by a single rename, that of the consolidated metadata
which `xarray.open_zarr` reads. They say under which names the chunks of each array lie, and Zarr
has several schemes of such names: every version of a dataset takes the next scheme, so its chunks
lie beside those of the version before. A reader sees the old dataset or the new one, never some
arrays of each, whatever kills the writer; one that has opened a dataset can read it to its end
while it is replaced.
"""

import contextlib
import json
import os
import platform
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from gat_jax.runtime import locks, stops

# Schemes of the names of chunks, of which those that follow each other share no name. For arrays of
# at least two dimensions no two of them do.
CHUNK_NAMES = (("default", "/"), ("v2", "."), ("default", "."), ("v2", "/"))
METADATA = "zarr.json"
SCRATCH = ".new-"


def check_writable(directory: Path, *, field: str = "out") -> None:
    """Create the folder of results, or fail before any work is done.

    Args:
      directory: its path.
      field: what an error calls it.

    Raises:
      ValueError: if nothing can be written there.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"{field}: expected a folder to write to, got {directory} ({reason})"
        ) from None


def check_store(path: Path) -> None:
    """Check that a folder is a sweep's store, or empty, before anything is written into it.

    Raises:
      ValueError: if it holds something else.
    """
    check_writable(path)
    entries = {entry.name for entry in path.iterdir()}
    ours = (locks.STORE_LOCK, SCRATCH)
    if {x for x in entries if not x.startswith(ours)} and not (
        path / "blocks" / METADATA
    ).is_file():
        raise ValueError(f"out: expected a sweep's store or a new path, got {path}")


def remove_scratch(path: Path) -> None:
    """Remove what a killed process left in a store; the store has to be locked."""
    for folder in path.glob(f"{SCRATCH}*"):
        shutil.rmtree(folder, ignore_errors=True)
    locks.remove_stale(path)


@contextlib.contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """Give a scratch folder whose entries replace those of `directory` when all is well.

    If the body fails, `directory` is left as it was. Entries are replaced one by one: a file
    changes at once, a kill in between leaves some old and some new. What a killed process left of
    its own scratch is removed.
    """
    with _scratch(directory) as scratch:
        scratch.mkdir()
        yield scratch
        for entry in sorted(scratch.iterdir()):
            target = directory / entry.name
            if target.is_dir() and not target.is_symlink():
                # A folder cannot be replaced in one step: move the old one aside first.
                os.replace(target, scratch / f".old-{entry.name}")
            os.replace(entry, target)


@contextlib.contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """Give the path of a scratch folder, to be made; remove it, and those of killed processes.

    Its name says which process of which machine it belongs to.
    """
    owner = f"{SCRATCH}{platform.node() or 'here'}-"
    for folder in directory.glob(f"{owner}*"):
        number = folder.name.removeprefix(owner).split("-")[0]
        if number.isdecimal() and not _is_alive(int(number)):
            shutil.rmtree(folder, ignore_errors=True)
    scratch = directory / f"{owner}{os.getpid()}-{uuid.uuid4().hex[:8]}"
    with stops.scratch(scratch):
        yield scratch


def _is_alive(process: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 ends the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # somebody else's
        return True
    return True


def save(dataset: xr.Dataset, path: Path) -> None:
    """Write a dataset as a Zarr store, or replace one; `xarray.open_zarr(path)` opens it.

    Whoever reads it sees the old dataset or the new one, see the module. Other things that lie in
    the folder stay.

    Args:
      dataset: what is written.
      path: of the store, a folder, made if it is not there.

    Raises:
      OSError: if the disk refuses; the old dataset is then left as it was.
    """
    # Zarr 3 specifies strings of variable length, and none of fixed length.
    names = [name for name, coord in dataset.coords.items() if coord.dtype.kind == "U"]
    dataset = dataset.assign_coords({name: dataset[name].astype(object) for name in names})
    path.mkdir(parents=True, exist_ok=True)
    with _scratch(path) as scratch:
        with warnings.catch_warnings():
            # Consolidated metadata are what `open_zarr` looks for first, if not yet a standard.
            warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
            # Every chunk is written: one that is left out, for it holds zeros, would let a chunk of
            # an earlier version be seen.
            dataset.to_zarr(
                scratch, mode="w", zarr_format=3, consolidated=True, write_empty_chunks=True
            )
        _replace_dataset(scratch, path)


def _replace_dataset(new: Path, path: Path) -> None:
    """Move a dataset that was just written, under the default names, to where another may be."""
    scheme = CHUNK_NAMES[(_scheme_of(path) + 1) % len(CHUNK_NAMES)]
    group = json.loads((new / METADATA).read_text(encoding="utf-8"))
    arrays = group["consolidated_metadata"]["metadata"]
    for name, metadata in arrays.items():
        metadata["chunk_key_encoding"] = {
            "name": scheme[0],
            "configuration": {"separator": scheme[1]},
        }
        for chunk in (new / name / "c").rglob("*") if metadata["shape"] else [new / name / "c"]:
            if chunk.is_file():
                numbers = chunk.relative_to(new / name).parts[1:]
                target = path / name / _chunk_name(numbers, *scheme)
                _make_room(target, path / name)
                os.replace(chunk, target)
        _write_json(metadata, new / name / METADATA)
    _write_json(group, new / METADATA)
    os.replace(new / METADATA, path / METADATA)  # from here on the new dataset is what is read
    # For readers of single arrays; after a kill they may find those of the version before.
    for name in arrays:
        os.replace(new / name / METADATA, path / name / METADATA)
    for old in path.glob(f"*/{METADATA}"):
        if old.parent.name not in arrays and '"array"' in old.read_text(encoding="utf-8"):
            shutil.rmtree(old.parent, ignore_errors=True)  # it is no part of the dataset any more


def _make_room(target: Path, array: Path) -> None:
    """Make the folder of a chunk; what is in the way is of an array of other dimensions."""
    for folder in [*reversed(target.relative_to(array).parents)]:
        if (array / folder).is_file():
            (array / folder).unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        shutil.rmtree(target)


def _chunk_name(numbers: Sequence[str], scheme: str, separator: str) -> str:
    """Return where a chunk lies in the folder of its array, as the standard of Zarr 3 says."""
    parts = ["c", *numbers] if scheme == "default" else list(numbers) or ["0"]
    return separator.join(parts)


def _scheme_of(path: Path) -> int:
    """Return which of `CHUNK_NAMES` the dataset at a path has; -1 if there is none."""
    try:
        group = json.loads((path / METADATA).read_text(encoding="utf-8"))
        arrays = group["consolidated_metadata"]["metadata"].values()
        found = next(array["chunk_key_encoding"] for array in arrays)
        return CHUNK_NAMES.index((found["name"], found["configuration"]["separator"]))
    # No dataset, or one that cannot be read any more: there is none to be spared.
    except (OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration):
        return -1


def _write_json(value: Any, file: Path) -> None:
    file.write_text(json.dumps(value, indent=2), encoding="utf-8")


def load(path: Path) -> xr.Dataset:
    """Open a store that `save` wrote.

    Raises:
      ValueError: if there is none.
    """
    if not (path / METADATA).is_file():
        raise ValueError(f"store: expected a Zarr store, got {path}")
    return xr.open_zarr(path)
