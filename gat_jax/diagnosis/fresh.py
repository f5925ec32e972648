"""How likely twins are equal in a layer that is freshly initialised, on the inputs that it has."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Array, Float, Int

from gat_jax.diagnosis.models.observed import ObservedLayer
from gat_jax.diagnosis.programs import compiled
from gat_jax.diagnosis.results import FreshChance
from gat_jax.graphs import TwinClasses, TwinPairs
from gat_jax.graphs.twin_samples import compare_pairs
from gat_jax.layers import LayerConfig, LayerSettings, apply_layer, init_layer
from gat_jax.runtime.stats import NORMAL_95, binomial_interval
from gat_jax.symmetry import equal_by_signs, pair_causes

MAX_PAIRS = 512  # whose equality is followed through every initialisation
FRESH_SEED = 16  # of the initialisations, which are the same in every diagnosis


def fresh_chance(
    observed: ObservedLayer, twins: TwinClasses, *, num_inits: int
) -> FreshChance | None:
    """Estimate how likely a pair of non-trivial twins is equal in all heads at initialisation.

    Args:
      observed: the layer, whose configuration says how it is initialised, and its inputs.
      twins: of its graph.
      num_inits: how many initialisations are drawn; 0 for none.

    Returns:
      The mean over pairs with its interval; None without twins or initialisations.
    """
    pairs = chosen_pairs(twins)
    if num_inits == 0 or len(pairs.first) == 0:
        return None
    shares = equal_shares(
        observed.layer.config,
        observed.layer.settings,
        observed.graph,
        pairs,
        num_inits=num_inits,
        edge_weight=observed.edge_weight,
    )
    mean, interval = mean_and_interval(shares)
    method = (
        f"{num_inits:,} initialisations ({observed.layer.config.initializer}) on the inputs of "
        f"this layer, {len(pairs.first):,} pairs of twins"
    )
    return FreshChance(mean, interval, method)


def chosen_pairs(twins: TwinClasses) -> TwinPairs:
    """Return at most 512 pairs of non-trivial twins, evenly chosen from those that are compared."""
    compared = compare_pairs(twins, is_trivial=False)
    num = len(compared.first)
    chosen = np.unique(np.linspace(0, num - 1, min(num, MAX_PAIRS)).astype(int)) if num else []
    first, second = compared.first[chosen], compared.second[chosen]
    return TwinPairs(first, second, np.zeros(len(first), bool))


def equal_shares(
    config: LayerConfig,
    settings: LayerSettings,
    graph: jraph.GraphsTuple,
    pairs: TwinPairs,
    *,
    num_inits: int,
    edge_weight: Float[np.ndarray, " edges"] | None = None,
) -> Float[np.ndarray, " inits"]:
    """Return for each of some initialisations which share of pairs is equal in all heads.

    Only the edges that pairs receive and the nodes at their ends are computed, so that a few twins
    in a large graph are cheap.

    Args:
      config: of the layer, with its initialiser.
      settings: of the layer.
      graph: with the layer's inputs for nodes.
      pairs: candidates of that graph.
      num_inits: at least 1.
      edge_weight: [E] that the layer is given.
    """
    graph, pairs, edge_weight = _part_of(graph, pairs, edge_weight)
    num_features = int(np.shape(graph.nodes)[1])
    measure = compiled(_equal_share)
    static = {"config": config, "num_features": num_features}
    arrays = jax.tree.map(jnp.asarray, (settings, graph, pairs, edge_weight))
    return np.array([float(measure(k, *arrays, **static)) for k in range(num_inits)])


def mean_and_interval(shares: Float[np.ndarray, " inits"]) -> tuple[float, tuple[float, float]]:
    """Return the mean of independent shares and its 95% interval.

    Where all are 0 or all are 1 there is no spread to go by: the interval is that of as many trials
    which all failed or all succeeded.
    """
    mean, num = float(shares.mean()), len(shares)
    if np.ptp(shares) == 0 and mean in (0.0, 1.0):
        low, high = binomial_interval(round(mean * num), num)
        return mean, (float(low), float(high))
    error = NORMAL_95 * float(shares.std(ddof=1)) / np.sqrt(num) if num > 1 else 1.0
    return mean, (max(0.0, mean - error), min(1.0, mean + error))


def _equal_share(
    number: Int[Array | np.ndarray, ""] | int,
    settings: LayerSettings,
    graph: jraph.GraphsTuple,
    pairs: TwinPairs,
    edge_weight: Array | None,
    *,
    config: LayerConfig,
    num_features: int,
) -> Float[Array, ""]:
    """Return the share of pairs that are equal in one initialisation."""
    key = jax.random.fold_in(jax.random.key(FRESH_SEED), number)
    params = init_layer(key, config, num_features)
    _, info = apply_layer(params, graph, config=config, settings=settings, edge_weight=edge_weight)
    causes = pair_causes(info, graph, pairs, slope=settings.slope)
    return jnp.mean(jnp.all(equal_by_signs(causes), axis=1).astype(jnp.float32))


def _part_of(
    graph: jraph.GraphsTuple, pairs: TwinPairs, edge_weight: np.ndarray | None
) -> tuple[jraph.GraphsTuple, TwinPairs, np.ndarray | None]:
    """Return the part of a graph that some pairs receive from, with nodes counted anew."""
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    is_asked = np.zeros(len(graph.nodes), bool)
    is_asked[pairs.first] = is_asked[pairs.second] = True
    kept = is_asked[receivers]
    nodes = np.unique(np.concatenate([senders[kept], np.flatnonzero(is_asked)]))
    number = np.zeros(len(graph.nodes), np.int32)
    number[nodes] = np.arange(len(nodes), dtype=np.int32)
    part = graph._replace(
        nodes=np.asarray(graph.nodes)[nodes],
        edges=None if graph.edges is None else np.asarray(graph.edges)[kept],
        senders=number[senders[kept]],
        receivers=number[receivers[kept]],
        n_node=np.array([len(nodes)], np.int32),
        n_edge=np.array([kept.sum()], np.int32),
    )
    weights = None if edge_weight is None else np.asarray(edge_weight)[kept]
    return part, TwinPairs(number[pairs.first], number[pairs.second], pairs.is_trivial), weights
