"""What can be recorded of a layer at one moment: a table of measures, each by its name.

    watched = watch(graph, layout=layout)                              # once, on the host
    found = measure(("entropy_mean", "effective_rank"), seen, watched)    # under jit, or mapped

Every measure speaks of real nodes and edges alone. A mean over nothing is NaN, and so is what is
made of numbers that are not finite. docs/measurements.md has the formulas and their sources.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from gat_jax.symmetry import CAUSES
from gat_jax.symmetry import representations as rep
from gat_jax.training import observations as obs
from gat_jax.training.balance import balances
from gat_jax.training.observations import NUM_ENTROPY_BINS, QUANTILES, Observed
from gat_jax.training.watched import Seen, Watched

# What the entries of a dimension are; of heads there are as many as the layer has.
COORDINATES: dict[str, tuple[float, ...] | tuple[str, ...]] = {
    "quantile": QUANTILES,
    "entropy_bin": tuple((k + 0.5) / NUM_ENTROPY_BINS for k in range(NUM_ENTROPY_BINS)),  # middles
    "cause": CAUSES,
    "twins": ("non_trivial", "trivial"),
}
HEAD, UNITS, SQUARED = ("head",), "units of the outputs", "squared units of the outputs"


class Measure(NamedTuple):
    """One quantity: its dimensions beside record and layer, and how it is computed."""

    dims: tuple[str, ...]  # "head", or names of `COORDINATES`
    unit: str
    description: str
    compute: Callable[[Observed], Array]


def measure(names: Iterable[str], seen: Seen, watched: Watched) -> dict[str, Array]:
    """Compute measures of one layer at one moment; it may be traced and mapped over runs.

    Args:
      names: of `MEASURES`, in any order.
      seen: the layer, without dropout.
      watched: its graph.

    Returns:
      By name, arrays whose axes are the measure's dimensions.

    Raises:
      ValueError: for a name that is no measure's, or as `normalised_entropy`, where the layer was
        not applied to this graph.
    """
    check_names(names := tuple(names))
    observed = Observed(seen, watched)
    return {name: MEASURES[name].compute(observed) for name in names}


def check_names(names: Iterable[str]) -> None:
    """Check that all names are those of measures.

    Raises:
      ValueError: if one is not.
    """
    for name in names:
        if name not in MEASURES:
            raise ValueError(f"measures: expected some of {', '.join(MEASURES)}, got {name!r}")


# --- of outputs and parameters --------------------------------------------------------------------


def _energy(observed: Observed) -> Float[Array, ""]:
    watched = observed.watched
    mask = watched.edge_mask if watched.hides_edges else None
    outputs = observed.seen.outputs
    # Padding has no edges but self-loops, and counts in the mean as little as in the sum.
    share = len(outputs) / watched.num_nodes
    return rep.dirichlet_energy(outputs, watched.layout, mask=mask) * share


def _balance(observed: Observed, reduce: Callable[[Array], Array]) -> Float[Array, ""]:
    seen = observed.seen
    if seen.depth + 1 >= len(seen.params):
        return jnp.full((), jnp.nan)
    params, after = seen.params[seen.depth : seen.depth + 2]
    return reduce(balances(params, after, seen.config))


# --- the table ------------------------------------------------------------------------------------

MEASURES: dict[str, Measure] = {
    "entropy_mean": Measure(
        HEAD,
        "1",
        "Mean of the normalised attention entropy over receivers with at least two edges.",
        lambda o: obs.mean_of_rows(o.entropies),
    ),
    "entropy_quantiles": Measure(
        ("head", "quantile"),
        "1",
        "Quantiles of the normalised attention entropy over receivers with at least two edges.",
        lambda o: obs.quantiles_of_rows(o.sorted_entropies),
    ),
    "entropy_histogram": Measure(
        ("head", "entropy_bin"),
        "share of receivers",
        "Shares of the receivers with at least two edges by their normalised attention entropy.",
        obs.entropy_histogram,
    ),
    "self_attention_mean": Measure(
        HEAD,
        "1",
        "Mean attention of receivers with a self-loop on themselves.",
        lambda o: obs.mean_of_rows(o.self_attention),
    ),
    "self_attention_quantiles": Measure(
        ("head", "quantile"),
        "1",
        "Quantiles of the attention of receivers with a self-loop on themselves.",
        lambda o: obs.quantiles_of_rows(o.sorted_self_attention),
    ),
    "favourite_share": Measure(
        HEAD,
        "share of receivers",
        "Share of the receivers with at least two senders that have the commonest favourite.",
        obs.favourite_share,
    ),
    "twin_cause_share": Measure(
        ("head", "cause"),
        "share of pairs",
        "Shares of the pairs of non-trivial twins by primary cause.",
        obs.cause_share,
    ),
    "twin_equal_share_by_head": Measure(
        HEAD,
        "share of pairs",
        "Share of all pairs of non-trivial twins that are equal by signs in a head.",
        lambda o: obs.equal_share(o, is_by_head=True),
    ),
    "twin_equal_share": Measure(
        (),
        "share of pairs",
        "Share of all pairs of non-trivial twins that are equal by signs in all heads.",
        lambda o: obs.equal_share(o, is_by_head=False)[0],
    ),
    "twin_gap_max": Measure(
        HEAD,
        UNITS,
        "Largest gap of all pairs of non-trivial twins in a head's outputs.",
        obs.largest_head_gap,
    ),
    "twin_gap_median": Measure(
        HEAD,
        UNITS,
        "Median gap of the pairs of non-trivial twins in a head's outputs.",
        lambda o: obs.median_gap(o.gaps, o.watched.twins),
    ),
    "twin_output_gap_max": Measure(
        ("twins",),
        UNITS,
        "Largest gap of all pairs of twins in the merged outputs.",
        lambda o: obs.output_gaps(o, is_median=False),
    ),
    "twin_output_gap_median": Measure(
        ("twins",),
        UNITS,
        "Median gap of the pairs of twins in the merged outputs.",
        lambda o: obs.output_gaps(o, is_median=True),
    ),
    "distinct_rows": Measure(
        (),
        "nodes",
        "Number of distinct rows of the outputs, to the last bit.",
        lambda o: rep.distinct_rows(o.outputs)[0],
    ),
    "distinct_rows_rounded": Measure(
        (),
        "nodes",
        "Number of distinct rows of the outputs, rounded to 1e-5 of their spread.",
        lambda o: rep.distinct_rows(o.outputs)[1],
    ),
    "effective_rank": Measure(
        (),
        "1",
        "Effective rank of the outputs: exp of the entropy of their singular values.",
        lambda o: rep.effective_rank(o.outputs),
    ),
    "dirichlet_energy": Measure(
        (),
        SQUARED,
        "Sum over the edges of the squared distance of their ends' outputs, by node.",
        _energy,
    ),
    "distance_to_mean": Measure(
        (),
        UNITS,
        "Frobenius norm of the outputs less their mean over nodes.",
        lambda o: rep.distance_to_mean(o.outputs),
    ),
    "output_norm": Measure(
        (),
        UNITS,
        "Frobenius norm of the outputs, beside which energy and distance are to be seen.",
        lambda o: rep.output_norm(o.outputs),
    ),
    "balance_mean": Measure(
        (),
        "squared units of the parameters",
        "Mean of the balance over a layer's units; NaN for the last layer.",
        lambda o: _balance(o, jnp.mean),
    ),
    "balance_max": Measure(
        (),
        "squared units of the parameters",
        "Largest absolute balance of a layer's units; NaN for the last layer.",
        lambda o: _balance(o, lambda x: jnp.max(jnp.abs(x))),
    ),
}
