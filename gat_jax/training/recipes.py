"""Networks and how they are trained, by name; to add a recipe, add a TOML file to `recipe_files`.

A recipe is everything but the graph and the seed. Its source stands in it.
"""

import dataclasses
import importlib.resources
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from gat_jax.kernels import LayoutName
from gat_jax.layers import (
    BlocksConfig,
    LayerConfig,
    LayerSettings,
    NetworkConfig,
    PlainConfig,
    blocks_config,
    layer_configs,
)
from gat_jax.layers.base import check_choice
from gat_jax.runtime.arrays import shown
from gat_jax.runtime.named_files import read_text
from gat_jax.training.config import TrainConfig
from gat_jax.training.scores import ScoreName
from gat_jax.training.settings import TrainSettings, check_settings
from gat_jax.training.stopping import Stopping

FeatureScaling = Literal["raw", "normalised_rows", "standardised"]
ANY_NUMBER_OF_CLASSES = 1  # stands in a recipe for the number that the task has


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A network and how it is trained: everything but the graph and the seed."""

    network: NetworkConfig  # of the number of classes that `configs` is given
    config: TrainConfig
    settings: TrainSettings
    # auto: the area under the ROC curve of two classes, and the accuracy of more
    score: ScoreName | Literal["auto"] = "accuracy"
    features: FeatureScaling = "raw"
    self_loops: bool = False  # every node is given one
    # Of the edges. With "segment" features are dense, too: programs compile fast, steps are slower.
    layout: LayoutName = "auto"
    source: str = ""

    def __post_init__(self):
        """Refuse what no recipe can be made of."""
        check_choice("score", self.score, ("auto", *get_args(ScoreName)))
        check_choice("features", self.features, get_args(FeatureScaling))
        check_choice("layout", self.layout, get_args(LayoutName))
        if not isinstance(self.self_loops, bool):
            raise ValueError(f"self_loops: expected True or False, got {self.self_loops!r}")
        check_settings(self.settings)
        if not isinstance(self.source, str):
            raise ValueError(f"source: expected text, got {shown(self.source)}")
        if not isinstance(self.network, BlocksConfig):
            last = layer_configs(self.network)[-1]
            if last.heads > 1 and last.concat:
                raise ValueError(
                    "layers: expected concat = false of the last layer, whose outputs are the "
                    f"classes, got {last.heads} heads that are concatenated"
                )

    def configs(self, num_classes: int) -> NetworkConfig:
        """Return the network for a task with so many classes."""
        if isinstance(self.network, BlocksConfig):
            return dataclasses.replace(self.network, num_classes=num_classes)
        *hidden, last = layer_configs(self.network)
        layers = (*hidden, dataclasses.replace(last, channels=num_classes))
        if isinstance(self.network, PlainConfig):
            return dataclasses.replace(self.network, layers=layers)
        return layers

    def train_config(self, num_classes: int) -> TrainConfig:
        """Return what is static about a run on a task with so many classes."""
        automatic: ScoreName = "roc_auc" if num_classes == 2 else "accuracy"
        score = automatic if self.score == "auto" else self.score
        return dataclasses.replace(self.config, score=score)


# --- recipes in files -----------------------------------------------------------------------------


def load_recipe(source: str | Path) -> Recipe:
    """Return a recipe by its name, or from a TOML file.

    Args:
      source: one of `RECIPES`, or the path of a file that ends with `.toml`.

    Raises:
      ValueError: if there is no such recipe; or names the file, the field, and what is wrong.
    """
    if str(source) in RECIPES:
        return RECIPES[str(source)]
    if not str(source).endswith(".toml"):
        names = ", ".join(RECIPES)
        raise ValueError(f"recipe: expected {names} or a .toml file, got {shown(str(source))}")
    return _parse(read_text("recipe", Path(source)), str(source))


def _parse(text: str, place: str) -> Recipe:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{place}: expected TOML, got an error: {error}") from None
    try:
        return _from_table(table)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _from_table(table: Mapping[str, Any]) -> Recipe:
    tables = ("layers", "norm", "blocks", "training", "settings")
    _check_keys("recipe", table, (*_OPTIONS, *tables))
    training = dict(_table(table, "training"))
    score = training.pop("score", "accuracy")
    stopping = training.pop("stopping", None)
    if stopping is not None:
        training["stopping"] = _make(Stopping, stopping, "training.stopping")
    numbers = dict(_table(table, "settings"))
    _check_numbers(numbers)
    layer = {name: numbers.pop(name) for name in LayerSettings._fields if name in numbers}
    settings = _make(TrainSettings, numbers, "settings")._replace(layer=LayerSettings(**layer))
    options = {name: table[name] for name in _OPTIONS if name in table}
    return Recipe(
        network=_network(table),
        config=_make(TrainConfig, training, "training"),
        settings=settings,
        score=score,
        **options,
    )


def _network(table: Mapping[str, Any]) -> NetworkConfig:
    if ("layers" in table) == ("blocks" in table):
        raise ValueError("recipe: expected either layers or blocks")
    if "blocks" in table:
        if "norm" in table:
            raise ValueError("norm: expected it in the table of blocks, got it beside them")
        blocks = dict(_table(table, "blocks"))
        return blocks_config(ANY_NUMBER_OF_CLASSES, **_known(blocks, "blocks", _BLOCK_FIELDS))
    layers = table["layers"]
    if not isinstance(layers, list) or not layers or not all(isinstance(x, dict) for x in layers):
        raise ValueError("layers: expected tables [[layers]], one for each layer")
    *hidden, last = layers
    if "channels" in last:
        found = shown(last["channels"])
        raise ValueError(f"layers: expected no channels of the last layer, got {found}")
    made = tuple(_make(LayerConfig, x, "layers") for x in hidden)
    output = _make(LayerConfig, {"channels": ANY_NUMBER_OF_CLASSES, **last}, "layers")
    if "norm" in table:
        return PlainConfig(layers=(*made, output), norm=table["norm"])
    return (*made, output)


_OPTIONS = ("source", "features", "self_loops", "layout")
_LAYER_FIELDS = tuple(field.name for field in dataclasses.fields(LayerConfig))
_BLOCK_FIELDS = (
    *("width", "heads", "depth", "norm", "sep", "expansion"),
    *(name for name in _LAYER_FIELDS if name not in ("heads", "channels")),
)


def _table(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = table.get(name, {})
    if not isinstance(value, dict):
        raise ValueError(f"{name}: expected a table, got {shown(value)}")
    return value


def _check_keys(place: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if unknown := [name for name in table if name not in known]:
        raise ValueError(f"{place}: expected {', '.join(known)}, got {unknown[0]}")


def _known(table: Mapping[str, Any], place: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    _check_keys(place, table, known)
    return table


def _check_numbers(numbers: Mapping[str, Any]) -> None:
    """Check that settings are numbers, before they are told apart by their names."""
    known = (*(name for name in TrainSettings._fields if name != "layer"), *LayerSettings._fields)
    _check_keys("settings", numbers, known)
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"settings.{name}: expected a number, got {shown(value)}")


def _make(kind: type, table: Mapping[str, Any], place: str) -> Any:
    """Return a dataclass or named tuple from a table that names its fields.

    Raises:
      ValueError: for a field that it has not, or a value that it refuses.
    """
    if not isinstance(table, dict):
        raise ValueError(f"{place}: expected a table, got {shown(table)}")
    if dataclasses.is_dataclass(kind):
        known = tuple(field.name for field in dataclasses.fields(kind))
    else:
        known = tuple(kind.__annotations__)
    return kind(**_known(table, place, known))


def _built_in() -> dict[str, Recipe]:
    folder = importlib.resources.files("gat_jax.training") / "recipe_files"
    files = sorted(file.name for file in folder.iterdir() if file.name.endswith(".toml"))
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in files}
    return {name.removesuffix(".toml"): _parse(text, name) for name, text in texts.items()}


RECIPES = _built_in()
# The GAT paper's own for Cora. Its code also drops projected features, which these layers do not.
GAT_PAPER_CORA = RECIPES["gat_paper_cora"]
