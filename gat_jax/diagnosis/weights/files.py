"""Files of weights as arrays by name: `.safetensors`, `.npz`, and torch's own.

A file is data and nothing else. What could run (a pickle beyond tensors, an array of objects) is
refused, and so is what claims more memory than there is; every failure is one line.
"""

import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gat_jax.graphs import archives
from gat_jax.runtime.arrays import FLOAT_DTYPES, check_real, check_size, shown
from gat_jax.runtime.named_files import check_regular, reason_of
from gat_jax.runtime.text import visible

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
SUFFIXES = (".safetensors", ".npz", *TORCH_SUFFIXES)
# Under these names a checkpoint holds the weights, beside the state of an optimiser and the like.
CONTAINERS = ("state_dict", "model_state_dict", "model", "params")
# What wrappers put before every key (data parallelism), and into any (compiled modules).
COMMON_PREFIXES = ("module", "params")
COMPILED = "_orig_mod."
MAX_DEPTH = 32  # of dictionaries in each other; one may even hold itself
MAX_ENTRIES = 1_000_000  # of all dictionaries and lists; one may stand in many places
MAX_NAME = 100  # letters of a name in a message

SAFETENSORS_DTYPES = {
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16, "BOOL": np.bool_},
    **{"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8},
    **{"U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8},
}


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """Read all arrays of a file of weights.

    Args:
      path: a `.safetensors` or `.npz` file, or one of `torch.save` (`.pt`, `.pth`, `.bin`,
        `.ckpt`), which needs torch and is read as tensors alone (`weights_only=True`).

    Returns:
      The arrays by key, as a state dict has them: dictionaries in each other become one, whose
      keys are joined by dots. If a checkpoint holds the weights under "state_dict",
      "model_state_dict", "model" or "params", these are taken. "module." and "params." go where
      all keys begin so, and "_orig_mod." goes everywhere. Floating numbers become float32.

    Raises:
      ValueError: one line that begins with the file's name: it is not there, is no such file or a
        damaged one, names code, claims more memory than there is, or holds numbers that are not
        finite in float32, whose key is then named.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{path}: expected weights in one of {', '.join(SUFFIXES)}, got {suffix!r}"
        )
    if suffix == ".npz":
        what = "weights as .npz"
        names = archives.array_names(path, what=what)
        stored: Any = archives.read_arrays(path, names, what=what)
    else:
        read = _read_safetensors if suffix == ".safetensors" else _read_torch
        # Whatever the readers raise for bytes of another kind says the same: these are no weights.
        # Nothing but reading happens in here.
        try:
            check_regular(path)
            check_size("the file", path.stat().st_size)
            stored = read(path)
        except Exception as error:
            wanted = f"{path}: expected weights as {suffix}"
            raise ValueError(f"{wanted}, got {visible(reason_of(error))}") from error
    # Tensors of unusual kinds raise other errors too.
    try:
        return checked_arrays(flattened(stored))
    except Exception as error:
        raise ValueError(f"{path}: {visible(reason_of(error))}") from error


def checked_arrays(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return weights by key, floating numbers as float32.

    Args:
      arrays: of NumPy, of JAX or of torch on the CPU, of any shape.

    Raises:
      ValueError: names the first key whose numbers are not real, or not finite in float32.
    """
    checked = {}
    for key, values in arrays.items():
        name = visible(key)[:MAX_NAME]
        values = _of_torch(name, values)
        # The strides of a view may claim far more numbers than it has memory.
        check_size(name, 4 * int(np.prod(np.shape(values), dtype=object)))
        array = check_real(name, values)
        if str(array.dtype) in FLOAT_DTYPES:
            with np.errstate(over="ignore"):
                held = array.astype(np.float32)
            if not np.isfinite(held).all():
                largest = shown(float(np.abs(array.astype(np.float64)).max()))
                raise ValueError(f"{name}: expected numbers that float32 holds, got {largest}")
            array = held
        checked[key] = array
    return checked


# --- trees of arrays ------------------------------------------------------------------------------


def flattened(tree: Any) -> dict[str, Any]:
    """Return the arrays of a tree by key, as `read_arrays` names them; all else is left out.

    Args:
      tree: dictionaries, lists and tuples in each other; their leaves may be anything.

    Raises:
      ValueError: if there is no array, if there are too many, or two of one key.
    """
    for container in CONTAINERS:
        for _ in range(MAX_DEPTH):
            inner = tree.get(container) if isinstance(tree, Mapping) else None
            if not isinstance(inner, Mapping) or next(_leaves(inner), None) is None:
                break
            tree = inner
    found: dict[str, Any] = {}
    for key, array in _leaves(tree):
        # Slashes part the names of a tree in an `.npz` file.
        name = ".".join(key).replace("/", ".").replace(COMPILED, "")
        if name in found:
            raise ValueError(f"weights: expected each key once, got {visible(name)!r} twice")
        found[name] = array
    if not found:
        raise ValueError("weights: expected arrays, got none")
    while prefix := next((x for x in COMMON_PREFIXES if all(_is_in(k, x) for k in found)), None):
        found = {key.removeprefix(f"{prefix}."): array for key, array in found.items()}
    return found


def _is_in(key: str, prefix: str) -> bool:
    return key.startswith(f"{prefix}.")


def _leaves(tree: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Return each array of a tree, and where it is, in order."""
    todo: list[tuple[tuple[str, ...], Any]] = [((), tree)]
    num_entries = 0
    while todo:
        key, entry = todo.pop()
        if hasattr(entry, "shape") and hasattr(entry, "dtype"):
            if getattr(entry.dtype, "kind", "f") not in "SU":  # text says nothing of weights
                yield key, entry
            continue
        if isinstance(entry, Mapping):
            children = list(entry.items())
        elif isinstance(entry, list | tuple):
            # A NamedTuple of parameters has names.
            children = list(zip(getattr(entry, "_fields", range(len(entry))), entry, strict=True))
        else:
            continue
        num_entries += len(children)
        if len(key) == MAX_DEPTH or num_entries > MAX_ENTRIES:
            raise ValueError(
                f"weights: expected at most {MAX_ENTRIES:,} entries, in dictionaries of at most "
                f"{MAX_DEPTH} levels, got more"
            )
        todo += [((*key, str(name)), child) for name, child in reversed(children)]


# --- formats --------------------------------------------------------------------------------------


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    import safetensors

    arrays = {}
    # It compares the claims of the header with the bytes that are there.
    for key, stored in safetensors.deserialize(path.read_bytes()):
        kind, data = stored["dtype"], stored["data"]
        if kind == "BF16":  # the upper half of a float32
            array = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        elif kind in SAFETENSORS_DTYPES:
            dtype = np.dtype(SAFETENSORS_DTYPES[kind]).newbyteorder("<")
            array = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))
        else:
            raise ValueError(f"{key[:MAX_NAME]!r} of {kind}, which is not read")
        arrays[key] = array.reshape(stored["shape"])
    return arrays


def _read_torch(path: Path) -> Any:
    """Read tensors alone: torch refuses every name of code but those that make tensors."""
    try:
        import torch
    except ImportError:
        raise ValueError(
            "no torch to read it with; pip install torch, or save the weights as .safetensors"
        ) from None
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            check_size("what it unpacks to", sum(x.file_size for x in archive.infolist()))
    try:
        with warnings.catch_warnings():  # advice on how to read it in other ways
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Torch's own advice is to read the file in a way that runs what is in it.
        raise ValueError(_reason_of_torch(error)) from error


def _reason_of_torch(error: Exception) -> str:
    text = str(error)
    advice = "torch.save(model.state_dict(), PATH) writes one that holds tensors alone"
    if named := re.search(r"GLOBAL (\S+)|class (\S+) was not|global (\S+) ", text):
        name = next(x for x in named.groups() if x)
        return f"a pickle that names {name[:MAX_NAME]}, which is not run; {advice}"
    if "weights_only" in text or "Weights only" in text:
        return f"a file that is more than tensors, which is not run; {advice}"
    return f"a damaged file, or one of another kind ({reason_of(error)[:MAX_NAME]})"


def _of_torch(name: str, values: Any) -> Any:
    """Return a tensor as an array, bfloat16 exactly; anything else as it is."""
    if not hasattr(values, "detach") or not hasattr(values, "layout"):
        return values
    is_plain = str(values.layout) == "torch.strided" and values.device.type == "cpu"
    if not is_plain or values.is_quantized:
        kind = "quantised" if values.is_quantized else f"{values.layout} on {values.device.type}"
        raise ValueError(f"{name}: expected a dense tensor on the CPU, got {kind}")
    check_size(name, 4 * values.numel())
    values = values.detach()
    # Of the narrow ones NumPy has not all; float32 holds each of them exactly.
    is_narrow = values.is_floating_point() and values.element_size() < 4
    return (values.float() if is_narrow else values).numpy()
