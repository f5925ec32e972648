"""Random initialisations of one setting, measured tile by tile.

A tile is a fixed number of initialisations, drawn in bulk and measured by one executable; its
numbers depend on (seed, cell, number of the tile) alone, never on how many tiles are asked for.
What comes back are counts, so memory does not grow with the number of initialisations.
"""

import dataclasses
import functools
import hashlib
import json
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Float, Int, Key

from gat_jax import graphs
from gat_jax.compiling import jit_briefly
from gat_jax.initializers import init_layer
from gat_jax.layers import LayerSettings, apply_layer
from gat_jax.metrics import normalised_entropy_deficit
from gat_jax.params import LayerConfig, LayerParams
from gat_jax.symmetry import CAUSES, equal_by_signs, pair_causes, primary_cause
from gat_jax.twins import TwinPairs

FeatureName = Literal["raw", "standardised", "uniform01", "normal"]

# An attention row counts as uniform when its normalised entropy is above one minus this.
UNIFORM_DEFICIT = 1e-6
REGIMES = (CAUSES.index("positive"), CAUSES.index("negative"))


@dataclasses.dataclass(frozen=True)
class Cell:
    """One setting whose initialisations are sampled."""

    graph: str  # name of the graph: part of the identity of the random numbers
    layer: LayerConfig
    features: FeatureName = "raw"  # uniform01 and normal are drawn anew for every initialisation

    def __post_init__(self):
        """Refuse what cannot be sampled."""
        if self.features not in ("raw", "standardised", "uniform01", "normal"):
            raise ValueError(
                f"features: expected raw, standardised, uniform01 or normal, got {self.features!r}"
            )


class Counts(NamedTuple):
    """Numbers of initialisations (I), or of initialisations and pairs (I P), with a property.

    H heads, K causes. "Collided" means equal by signs in every head.
    """

    num_inits: Int[Array | np.ndarray, ""]  # I
    collisions: Int[Array | np.ndarray, ""]  # of I P
    # Pairs of one initialisation are not independent: the sum over I of squared shares of pairs
    # collided gives the mean share its interval.
    squared_shares: Float[Array | np.ndarray, ""]
    all_pairs_collided: Int[Array | np.ndarray, ""]  # of I
    regime_collisions: Int[Array | np.ndarray, ""]  # of I P: each head in one linear regime
    head_collisions: Int[Array | np.ndarray, " heads"]  # of I P, each head for itself
    head_causes: Int[Array | np.ndarray, "heads causes"]  # of I P, by primary cause
    uniform_attention: Int[Array | np.ndarray, ""]  # of I P: in both rows, every head
    equal_outputs: Int[Array | np.ndarray, ""]  # of I P: merged outputs equal to the last bit
    matching_outputs: Int[Array | np.ndarray, ""]  # of I P: equal when rounded to 4 decimals


def sample(
    cell: Cell,
    graph: jraph.GraphsTuple,
    pairs: TwinPairs,
    *,
    num_inits: int,
    seed: int,
    settings: LayerSettings = LayerSettings(),
) -> Counts:
    """Draw at least `num_inits` initialisations of a cell and count what happens to its twins.

    Args:
      cell: what is drawn.
      graph: with raw features, which `cell.features` may replace.
      pairs: non-trivial twins of the graph, at least one.
      num_inits: rounded up to whole tiles.
      seed: root of all random numbers.
      settings: of the layer.

    Returns:
      Counts on the host, as int64 and float64.

    Raises:
      ValueError: without pairs, or when less than one initialisation is asked for.
    """
    if len(pairs.first) == 0:
        raise ValueError("pairs: expected at least one pair of non-trivial twins, got none")
    if num_inits < 1:
        raise ValueError(f"num_inits: expected at least 1, got {num_inits}")
    if cell.features == "standardised":
        graph = graph._replace(nodes=graphs.standardise(graph.nodes))
    graph, pairs = _cut_out(graph, pairs)
    size = tile_size(cell, graph)
    run = jit_briefly(functools.partial(tile, cell=cell, size=size))
    total = None
    for index in range(-(-num_inits // size)):
        counts = run(tile_key(cell, seed, index), graph, pairs, settings=settings)
        counts = jax.tree.map(_widen, counts)
        total = counts if total is None else jax.tree.map(np.add, total, counts)
    assert total is not None
    return total


def _widen(x: Array) -> np.ndarray:
    return np.asarray(x, np.int64 if jnp.issubdtype(x.dtype, jnp.integer) else np.float64)


def _cut_out(graph: jraph.GraphsTuple, pairs: TwinPairs) -> tuple[jraph.GraphsTuple, TwinPairs]:
    """Keep what the rows of the twins need: no other row is measured."""
    graph, kept = graphs.in_neighbourhood(graph, np.union1d(pairs.first, pairs.second))
    first, second = (np.searchsorted(kept, i).astype(np.int32) for i in pairs[:2])
    return graph, TwinPairs(first, second, pairs.is_trivial)


def tile_key(cell: Cell, seed: int, index: int | Int[Array, ""]) -> Key[Array, ""]:
    """Return the key of one tile of a cell."""
    name = json.dumps(dataclasses.asdict(cell), sort_keys=True)
    return jax.random.fold_in(named_key(seed, name), index)


def named_key(seed: int, name: str) -> Key[Array, ""]:
    """Return a key that depends on the seed and a stable hash of the name alone."""
    key = jax.random.key(seed)
    for word in np.frombuffer(hashlib.sha256(name.encode()).digest()[:8], "<u4"):
        key = jax.random.fold_in(key, word)
    return key


def tile_size(cell: Cell, graph: jraph.GraphsTuple) -> int:
    """Return the initialisations of one tile: a power of two, some 64 MiB of numbers at most."""
    outputs = cell.layer.heads * cell.layer.channels
    edges, nodes, features = len(graph.senders), *graph.nodes.shape
    numbers = 4 * outputs * (edges + nodes + features)
    return int(2 ** np.clip(np.floor(np.log2(2**24 / numbers)), 4, 14))


def tile(
    key: Key[Array, ""],
    graph: jraph.GraphsTuple,
    pairs: TwinPairs,
    *,
    cell: Cell,
    size: int,
    settings: LayerSettings = LayerSettings(),
) -> Counts:
    """Draw and measure one tile of initialisations; jittable, cell and size static."""
    feature_key, params_key = jax.random.split(key)
    shape = graph.nodes.shape
    params = init_layer(params_key, cell.layer, shape[1], batch_shape=(size,))
    nodes, nodes_axis = graph.nodes, None
    if cell.features in ("uniform01", "normal"):
        draw = jax.random.uniform if cell.features == "uniform01" else jax.random.normal
        nodes, nodes_axis = draw(feature_key, (size, *shape)), 0

    def measure(params: LayerParams, nodes: Float[Array | np.ndarray, "nodes features"]) -> Counts:
        return _measure(params, graph._replace(nodes=nodes), pairs, cell.layer, settings)

    counts = jax.vmap(measure, in_axes=(0, nodes_axis))(params, nodes)
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), counts)


def _measure(
    params: LayerParams,
    graph: jraph.GraphsTuple,
    pairs: TwinPairs,
    config: LayerConfig,
    settings: LayerSettings,
) -> Counts:
    """Measure one initialisation."""
    out, info = apply_layer(
        params,
        graph,
        concat=config.concat,
        normalization=config.gcn_normalization,
        settings=settings,
    )
    causes_phk = pair_causes(info, graph.receivers, pairs, slope=settings.slope)
    is_equal_ph = equal_by_signs(causes_phk)
    is_collided_p = jnp.all(is_equal_ph, axis=1)
    in_regime_ph = causes_phk[..., REGIMES[0]] | causes_phk[..., REGIMES[1]]
    primary_phk = primary_cause(causes_phk)[..., None] == jnp.arange(len(CAUSES))[None, None]
    deficit_nh = normalised_entropy_deficit(info.attention, graph.receivers, len(out))
    is_uniform_n = jnp.all(deficit_nh < UNIFORM_DEFICIT, axis=1)
    first, second = out[pairs.first], out[pairs.second]
    return Counts(
        num_inits=jnp.int32(1),
        collisions=jnp.sum(is_collided_p),
        squared_shares=jnp.mean(is_collided_p) ** 2,
        all_pairs_collided=jnp.all(is_collided_p).astype(jnp.int32),
        regime_collisions=jnp.sum(is_collided_p & jnp.all(in_regime_ph, axis=1)),
        head_collisions=jnp.sum(is_equal_ph, axis=0),
        head_causes=jnp.sum(primary_phk, axis=0),
        uniform_attention=jnp.sum(is_uniform_n[pairs.first] & is_uniform_n[pairs.second]),
        equal_outputs=jnp.sum(jnp.all(first == second, axis=-1)),
        matching_outputs=jnp.sum(
            jnp.all(jnp.round(first * 1e4) == jnp.round(second * 1e4), axis=-1)
        ),
    )
