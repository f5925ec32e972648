"""What a training is asked to do: a recipe on some data, its seeds, and what is varied."""

import dataclasses
import hashlib
import itertools
import json
from typing import Any, Literal, NamedTuple

import numpy as np

from gat_jax.graphs import NodeTask
from gat_jax.layers import BlocksConfig, LayerName, NetworkConfig, PlainConfig, layer_configs
from gat_jax.runtime.arrays import check_count, shown
from gat_jax.training.measures import check_names
from gat_jax.training.recipes import FeatureScaling, Recipe, load_recipe

# The axes of a grid. Those of the first group are traced, so that their values share a program.
TRACED = ("learning_rate", "weight_decay", "feature_dropout", "attention_dropout", "slope")
STATIC = ("layer", "heads", "channels", "depth", "features", "self_loops")
AXES = (*TRACED, *STATIC)
DEFAULT_MEASURES = (
    *("entropy_mean", "self_attention_mean", "twin_equal_share"),
    *("effective_rank", "dirichlet_energy", "balance_mean"),
)


@dataclasses.dataclass(frozen=True)
class TrainSpec:
    """What is trained.

    Every combination of the values of the axes is a setting; an axis without values has the
    recipe's.
    """

    data: str = "tutorial"
    """a built-in graph, an .npz file, or a folder with Planetoid's raw files or tables"""
    recipe: str = "tutorial"
    """by its name, or a TOML file"""
    num_seeds: int = 20
    """runs of every setting; run s starts from seed s and is trained on split s of the data"""
    seed: int = 0
    """root of all random numbers"""
    learning_rate: tuple[float, ...] = ()
    """of the optimiser"""
    weight_decay: tuple[float, ...] = ()
    """L2, added to the gradient"""
    feature_dropout: tuple[float, ...] = ()
    """share of the features of every layer that a step leaves out"""
    attention_dropout: tuple[float, ...] = ()
    """share of the attention that a step leaves out"""
    slope: tuple[float, ...] = ()
    """of the LeakyReLU"""
    layer: tuple[LayerName, ...] = ()
    """kind of all layers"""
    heads: tuple[int, ...] = ()
    """of all layers but the last of a plain network; blocks keep their width"""
    channels: tuple[int, ...] = ()
    """per head, of all layers but the last of a plain network"""
    depth: tuple[int, ...] = ()
    """layers or blocks; a plain network repeats its first layer"""
    features: tuple[FeatureScaling, ...] = ()
    """raw, normalised_rows or standardised"""
    self_loops: tuple[bool, ...] = ()
    """whether every node is given one"""
    num_steps: int | None = None
    """at most; none: the recipe's"""
    record_every: int | None = None
    """steps; none: the recipe's"""
    measures: tuple[str, ...] = DEFAULT_MEASURES
    """what is recorded beside loss, accuracy and twins; see docs/measurements.md"""
    chunk_size: Literal["auto"] | int = "auto"
    """seeds that are computed together; auto: as many as suit the memory, at most 8 on a CPU"""

    def __post_init__(self):
        """Refuse what no training can be made of."""
        least = {"num_seeds": 1, "seed": 0} | (
            {} if self.chunk_size == "auto" else {"chunk_size": 1}
        )
        for field, number in least.items():
            check_count(field, getattr(self, field), number)
        if self.seed >= 2**32:
            raise ValueError(f"seed: expected 0 to 4294967295, got {shown(self.seed)}")
        for axis in AXES:
            values = getattr(self, axis)
            if not isinstance(values, tuple):
                raise ValueError(f"{axis}: expected a tuple of values, got {shown(values)}")
            if len(set(values)) < len(values):
                twice = next(value for value in values if values.count(value) > 1)
                raise ValueError(f"{axis}: expected different values, got {twice} twice")
        check_names(self.measures)

    def settings(self) -> list["Setting"]:
        """Return every combination of the values of the axes.

        Raises:
          ValueError: if a recipe cannot be found or cannot have one of the values.
        """
        recipe = load_recipe(self.recipe)
        steps = {
            name: value
            for name in ("num_steps", "record_every")
            if (value := getattr(self, name)) is not None
        }
        config = dataclasses.replace(recipe.config, **steps, measures=self.measures)
        recipe = dataclasses.replace(recipe, config=config)
        axes = {axis: values for axis in AXES if (values := getattr(self, axis))}
        found = []
        for values in itertools.product(*axes.values()):
            varied = dict(zip(axes, values, strict=True))
            found.append(Setting(varied, _varied(recipe, varied)))
        return found


class Setting(NamedTuple):
    """One combination of the values of the axes."""

    values: dict[str, Any]  # of the axes that are varied
    recipe: Recipe  # with these values

    @property
    def name(self) -> str:
        """What it is called in tables and stores."""
        return ", ".join(f"{axis}={value}" for axis, value in self.values.items()) or "recipe"

    def key(self, spec: TrainSpec, digest: str) -> str:
        """Return what its results are stored under: a hash of all that they depend on.

        With chunks of a size that is not decided it is a name for the setting alone.
        """
        known = {
            "recipe": dataclasses.asdict(self.recipe) | {"source": ""},
            "network": type(self.recipe.network).__name__,
            "seed": spec.seed,
            "chunk_size": spec.chunk_size,
            "data": digest,
        }
        text = json.dumps(known, sort_keys=True, default=_plain)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    return value._asdict() if hasattr(value, "_asdict") else repr(value)


def digest_of(task: NodeTask) -> str:
    """Return a hash of a graph, its features, labels and splits, as hexadecimal digits."""
    found = hashlib.sha256()
    splits = task.splits or ()
    graph = task.graph
    edges = () if graph.edges is None else (graph.edges,)
    for array in (graph.nodes, graph.senders, graph.receivers, *edges, task.labels, *splits):
        array = np.ascontiguousarray(array)
        found.update(f"{array.dtype} {array.shape};".encode())
        found.update(array.tobytes())
    return found.hexdigest()


# --- a recipe with other values -------------------------------------------------------------------


def _varied(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    settings, layer = recipe.settings, recipe.settings.layer
    for axis in TRACED:
        if axis in values and axis in layer._fields:
            layer = layer._replace(**{axis: values[axis]})
        elif axis in values:
            settings = settings._replace(**{axis: values[axis]})
    network = recipe.network
    if isinstance(network, BlocksConfig):
        network = _varied_blocks(network, values)
    else:
        network = _varied_layers(network, values)
    options = {axis: values[axis] for axis in ("features", "self_loops") if axis in values}
    changed = {"network": network, "settings": settings._replace(layer=layer), **options}
    return dataclasses.replace(recipe, **changed)


def _varied_layers(network: NetworkConfig, values: dict[str, Any]) -> NetworkConfig:
    *hidden, last = layer_configs(network)
    if "depth" in values:
        check_count("depth", values["depth"], 1)
        if values["depth"] > 1 and not hidden:
            raise ValueError(f"depth: expected 1, as the recipe has, got {values['depth']}")
        hidden = [hidden[0]] * (values["depth"] - 1) if hidden else []
    shape = {axis: values[axis] for axis in ("heads", "channels") if axis in values}
    kind = {"layer": values["layer"]} if "layer" in values else {}
    if "channels" in shape and not hidden:
        raise ValueError("channels: expected a network of several layers, got one with one layer")
    if hidden:
        hidden = [dataclasses.replace(layer, **shape, **kind) for layer in hidden]
    elif "heads" in shape:  # of a network of one layer, whose channels are the classes
        kind["heads"] = shape["heads"]
    layers = (*hidden, dataclasses.replace(last, **kind))
    is_plain = isinstance(network, PlainConfig)
    return dataclasses.replace(network, layers=layers) if is_plain else layers


def _varied_blocks(network: BlocksConfig, values: dict[str, Any]) -> BlocksConfig:
    layer, width = network.layer, network.width
    if "channels" in values:
        raise ValueError("channels: expected heads alone, among which blocks share their width")
    heads = values.get("heads", layer.heads)
    check_count("heads", heads, 1)
    if width % heads:
        raise ValueError(f"heads: expected a divisor of the width {width}, got {heads}")
    shape = {"heads": heads, "channels": width // heads}
    layer = dataclasses.replace(layer, layer=values.get("layer", layer.layer), **shape)
    return dataclasses.replace(network, layer=layer, depth=values.get("depth", network.depth))
