"""A sweep's spec as a TOML file: the fields of `SweepSpec`, a single value for a list of one."""

import dataclasses
import difflib
import tomllib
from pathlib import Path
from typing import Any

from gat_jax.sweeps.runner import AXES, SweepSpec

NUMBERS = {"heads": int, "channels": int, "num_inits": int, "seed": int, "block_size": int}
NUMBERS |= {"slope": float, "gain": float, "precision": float}


def load_spec(path: Path) -> SweepSpec:
    """Read a spec.

    Raises:
      ValueError: names the file, the key and what is wrong with it: unknown (with the nearest
        valid one), repeated, or of the wrong type.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"spec: expected a readable file, got {path} ({error})") from None
    valid = [field.name for field in dataclasses.fields(SweepSpec)]
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {_explain(error, text, valid)}") from None
    values = {}
    for key, value in found.items():
        if key not in valid:
            raise ValueError(f"{path}: expected no key {key!r}{_nearest(key, valid)}")
        values[key] = _convert(path, key, value)
    return SweepSpec(**values)


def _explain(error: tomllib.TOMLDecodeError, text: str, valid: list[str]) -> str:
    """Say which key is repeated, where that is what is wrong."""
    seen = set()
    for number, line in enumerate(text.splitlines(), 1):
        key = line.split("=")[0].strip()
        if "overwrite" in str(error) and "=" in line and key in seen:
            again = f"expected each key once, got {key!r} again in line {number}"
            return again + _nearest(key, valid)
        seen.add(key)
    return str(error)


def _nearest(key: str, valid: list[str]) -> str:
    nearest = difflib.get_close_matches(key, [name for name in valid if name != key], n=1)
    return f" (perhaps you meant {nearest[0]})" if nearest else ""


def _convert(path: Path, key: str, value: Any) -> Any:
    """Check the type of a value, and make a tuple of the values of an axis."""
    kind = NUMBERS.get(key, str)
    accepted = (int, float) if kind is float else kind
    items: list[Any] = value if key in AXES and isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, accepted) or isinstance(item, bool):
            raise ValueError(f"{path}: {key}: expected {kind.__name__}, got {item!r}")
    converted = tuple(kind(x) for x in items)
    return converted if key in AXES else converted[0]
