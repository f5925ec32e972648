"""Results on disk: labelled arrays, and folders that change all at once or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import xarray as xr


def check_writable(directory: Path) -> None:
    """Create the folder of results, or fail before any work is done.

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
            f"out: expected a folder to write to, got {directory} ({reason})"
        ) from None


@contextlib.contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """Give a scratch folder whose entries replace those of `directory` when all is well.

    If the body fails, `directory` is left as it was.
    """
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=directory))
    try:
        yield scratch
        for entry in sorted(scratch.iterdir()):
            target = directory / entry.name
            if target.is_dir():
                # A folder cannot be replaced in one step: move the old one aside first.
                os.replace(target, scratch / f".old-{entry.name}")
            os.replace(entry, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def save(dataset: xr.Dataset, path: Path) -> None:
    """Write a dataset as a Zarr store; `xarray.open_zarr(path)` opens it."""
    # Zarr 3 specifies strings of variable length, and none of fixed length.
    names = [name for name, coord in dataset.coords.items() if coord.dtype.kind == "U"]
    dataset = dataset.assign_coords({name: dataset[name].astype(object) for name in names})
    dataset.to_zarr(path, mode="w", zarr_format=3, consolidated=False)


def load(path: Path) -> xr.Dataset:
    """Open a store that `save` wrote.

    Raises:
      ValueError: if there is none.
    """
    if not path.is_dir():
        raise ValueError(f"store: expected a Zarr store, got {path}")
    return xr.open_zarr(path, consolidated=False)
