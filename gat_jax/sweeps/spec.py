"""What a sweep is asked to do: the spec, its axes, and its TOML file.

A spec names the values of every axis of a grid and how many random initialisations each cell of
the grid gets. It is plain data: nothing here reads a graph or computes a number.
"""

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from gat_jax.layers import InitializerName, LayerName
from gat_jax.runtime.arrays import check_count, shown
from gat_jax.runtime.named_files import read_text
from gat_jax.sampling import FeatureName

# The axes of the grid, in the order of the summary's dimensions; `gain` is one where it is given.
AXES = ("graph", "layer", "heads", "channels", "initializer", "features", "slope", "gain")
CHOICES = {
    "layer": get_args(LayerName),
    "initializer": get_args(InitializerName),
    "features": get_args(FeatureName),
    "measure": ("all", "collisions"),
    "keep": ("summary", "raw"),
}
# What the values of a field are in a TOML file; those of all other fields are text.
NUMBERS = {
    **dict.fromkeys(("heads", "channels", "num_inits", "seed", "block_size"), int),
    **dict.fromkeys(("slope", "gain", "precision"), float),
}
DEFAULT_BLOCK_SIZE = 2**20


@dataclasses.dataclass(frozen=True)
class SweepSpec:
    """What is swept. Every combination of the values of the axes is one cell of the grid.

    Raises:
      ValueError: if no sweep can be made of it; the message names the field.
    """

    graph: tuple[str, ...] = ("tutorial",)
    """built-in graphs (tutorial, karate_club, les_miserables) or .npz files; with "+self_loops"
    after the name every node gets one"""
    layer: tuple[LayerName, ...] = ("gat",)
    """gcn exists with one head only"""
    heads: tuple[int, ...] = (1,)
    """attention heads of the layer"""
    channels: tuple[int, ...] = (2,)
    """per head"""
    initializer: tuple[InitializerName, ...] = ("tutorial",)
    """of the layer's parameters"""
    features: tuple[FeatureName, ...] = ("raw",)
    """of the nodes; uniform01 and normal are drawn anew for every initialisation"""
    slope: tuple[float, ...] = (0.2,)
    """of the LeakyReLU"""
    gain: tuple[float, ...] = ()
    """of the initialiser; none: its own"""
    num_inits: int = 1_000_000
    """initialisations per cell"""
    seed: int = 0
    """root of all random numbers"""
    measure: Literal["all", "collisions"] = "all"
    """collisions: signs alone, no entropies, gaps and outputs"""
    keep: Literal["summary", "raw"] = "summary"
    """raw: values of every initialisation as well"""
    precision: float | None = None
    """stop a cell as soon as the 95 percent interval of its collision probability is this narrow"""
    block_size: int = DEFAULT_BLOCK_SIZE
    """initialisations per stored block, in whole tiles"""

    def __post_init__(self):
        """Refuse what no sweep can be made of."""
        for axis in AXES:
            values = getattr(self, axis)
            if not isinstance(values, tuple):
                raise ValueError(f"{axis}: expected a tuple of values, got {shown(values)}")
            if axis in ("slope", "gain"):  # 1 and 1.0 are one value
                values = tuple(map(float, values))
                object.__setattr__(self, axis, values)
            if not values and axis != "gain":
                raise ValueError(f"{axis}: expected at least one value, got none")
            for value in values:
                if isinstance(value, str) and not _is_text(value):
                    raise ValueError(f"{axis}: expected names that are valid text, got {value!r}")
            if len(set(values)) < len(values):
                twice = next(value for value in values if values.count(value) > 1)
                raise ValueError(f"{axis}: expected different values, got {_named(twice)} twice")
        for field in ("num_inits", "block_size"):
            number = check_count(field, getattr(self, field), 1)
            if number >= 2**63:
                raise ValueError(f"{field}: expected less than 2^63, got {shown(number)}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed: expected 0 to 4294967295, got {shown(self.seed)}")
        for field, choices in CHOICES.items():
            for value in np.ravel(getattr(self, field)):
                if value not in choices:
                    names = ", ".join(choices)
                    raise ValueError(f"{field}: expected one of {names}, got {value}")
        if self.precision is not None and not 0 < self.precision < 1:
            raise ValueError(f"precision: expected between 0 and 1, got {self.precision}")

    @property
    def axes(self) -> dict[str, tuple]:
        """The axes of the grid with their values; `gain` is among them where it is given."""
        return {axis: getattr(self, axis) for axis in AXES if axis != "gain" or self.gain}


def _named(value: Any) -> str:
    """Return a value of an axis for a message: a name without quotes, and any number."""
    return value if isinstance(value, str) else shown(value)


def _is_text(value: str) -> bool:
    """Whether a store can hold a name, which a path of bytes that are no text can not."""
    try:
        return "\0" not in value and bool(value.encode())
    except UnicodeEncodeError:
        return False


def spec_from(stored: Mapping[str, Any], place: str) -> SweepSpec:
    """Return a spec from its fields as JSON holds them, with lists in the place of tuples.

    Args:
      stored: all fields by name.
      place: where they stand, for messages.

    Raises:
      ValueError: names a field that is missing, unknown, or of the wrong type or value.
    """
    names = [field.name for field in dataclasses.fields(SweepSpec)]
    for name in names:
        if name not in stored:
            raise ValueError(f"{place}: {name}: expected a value, got none")
    values = {}
    for name, value in stored.items():
        if name not in names:
            raise ValueError(f"{place}: {name}: expected no such field, got {shown(value)}")
        is_none = name == "precision" and value is None
        values[name] = None if is_none else _convert(place, name, value)
    return _spec(values, place)


def _spec(values: dict[str, Any], place: Path | str) -> SweepSpec:
    try:
        return SweepSpec(**values)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


# --- TOML files ---------------------------------------------------------------------------------


def load_spec(path: Path) -> SweepSpec:
    """Read a spec from a TOML file.

    The keys are the fields of `SweepSpec`. An axis with one value may be given without a list.

    Args:
      path: of the file.

    Raises:
      ValueError: names the file, the key and what is wrong with it: unknown (with the nearest
        valid one), repeated, or of the wrong type; or the file, if it cannot be read or is no TOML.
    """
    text = read_text("spec", path)
    valid = [field.name for field in dataclasses.fields(SweepSpec)]
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {_explain(error, text, valid)}") from None
    except RecursionError:
        raise ValueError(f"{path}: expected values, got lists of far too many levels") from None
    except ValueError as error:  # of a whole number of thousands of digits
        reason = str(error).split(";")[0]
        raise ValueError(f"{path}: expected TOML, got what cannot be read ({reason})") from None
    values = {}
    for key, value in found.items():
        if key not in valid:
            raise ValueError(f"{path}: expected no key {key!r}{_nearest(key, valid)}")
        values[key] = _convert(path, key, value)
    return _spec(values, path)


def _explain(error: tomllib.TOMLDecodeError, text: str, valid: list[str]) -> str:
    """Return which key is repeated, where that is what is wrong, or else the parser's message."""
    seen = set()
    for number, line in enumerate(text.splitlines(), 1):
        key = line.split("=")[0].strip()
        if "overwrite" in str(error) and "=" in line and key in seen:
            again = f"expected each key once, got {key!r} again in line {number}"
            return again + _nearest(key, valid)
        seen.add(key)
    return str(error)


def _nearest(key: str, valid: list[str]) -> str:
    """Return a hint at the valid key that is most like this one, or nothing."""
    nearest = difflib.get_close_matches(key, [name for name in valid if name != key], n=1)
    return f" (perhaps you meant {nearest[0]})" if nearest else ""


def _convert(place: Path | str, key: str, value: Any) -> Any:
    """Check the type of a value, and make a tuple of the values of an axis."""
    kind = NUMBERS.get(key, str)
    accepted = (int, float) if kind is float else kind
    items: list[Any] = value if key in AXES and isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, accepted) or isinstance(item, bool):
            raise ValueError(f"{place}: {key}: expected {kind.__name__}, got {shown(item)}")
    try:
        converted = tuple(kind(x) for x in items)
    except OverflowError:  # a whole number that no float holds
        raise ValueError(f"{place}: {key}: expected a number, got a far larger one") from None
    return converted if key in AXES else converted[0]
