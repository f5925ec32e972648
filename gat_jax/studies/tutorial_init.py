"""The tutorial graph before training: the two printed layers, and random initialisations."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import jraph
import numpy as np
import xarray as xr

from gat_jax.graphs import TwinPairs, datasets, twins
from gat_jax.layers import GATParams, LayerConfig, gat
from gat_jax.runtime.stats import binomial_interval
from gat_jax.sampling import UNIFORM_DEFICIT, Cell, Counts, FeatureName, sample
from gat_jax.studies.claims import Measurement, deterministic, share
from gat_jax.symmetry import CAUSES, normalised_entropy, probability

# What the tutorial prints for its two-head layer.
PRINTED_OUTPUTS = ((1.2913, 1.98), (4.2344, 3.7725), (4.6798, 4.8362), (4.5043, 4.7351))


# --- the tutorial's two layers ------------------------------------------------------------------


def article_params() -> GATParams:
    """Return the article's one head of two channels: W = I, no bias, a = [-.2, .3 | .1, -.1]."""
    return GATParams(
        kernel=jnp.eye(2).reshape(2, 1, 2),
        a_recv=jnp.array([[-0.2, 0.3]]),
        a_send=jnp.array([[0.1, -0.1]]),
        bias=jnp.zeros((1, 2)),
    )


def two_head_params() -> GATParams:
    """Return the tutorial's two heads of one channel: W = I, no bias, the same four numbers."""
    return GATParams(
        kernel=jnp.eye(2).reshape(2, 2, 1),
        a_recv=jnp.array([[-0.2], [0.1]]),
        a_send=jnp.array([[0.3], [-0.1]]),
    )


def layer_measurements() -> dict[str, Measurement]:
    """Apply the two printed layers to the tutorial graph."""
    graph, pairs = tutorial_twins()
    two_heads = np.asarray(gat(two_head_params(), graph)[0])
    error = float(np.abs(two_heads - np.array(PRINTED_OUTPUTS)).max())
    difference = float(np.abs(two_heads[2] - two_heads[3]).max())
    out, info = gat(article_params(), graph)
    entropy = normalised_entropy(info.attention, graph.receivers, 4)
    twin_entropy = float(np.asarray(entropy)[[*pairs.first, *pairs.second]].mean())
    gap = float(np.abs(out[2] - out[3]).max())
    in_twin_rows = np.isin(graph.receivers, [*pairs.first, *pairs.second])
    lowest = float(np.asarray(info.logits)[in_twin_rows].min())
    return {
        "tutorial.max_abs_error": deterministic(
            error,
            f"Largest difference from the printed outputs: {error:.1e}. "
            f"Nodes 3 and 4 (ids 2 and 3) differ by {difference:.4f}.",
        ),
        "article.normalised_entropy": deterministic(
            twin_entropy,
            "Mean over the rows of nodes 3 and 4 (ids 2 and 3); their senders' scores are equal.",
        ),
        "article.twin_gap": deterministic(
            gap, "Largest difference between the outputs of nodes 3 and 4 (ids 2 and 3)."
        ),
        "article.lowest_logit": deterministic(
            lowest,
            f"The twins' lowest logit is {lowest:.1f}: beside uniform attention the positive "
            f"linear regime {'holds' if lowest >= 0 else 'does not hold'}. A regime, unlike "
            "uniform attention, survives small changes of the parameters.",
        ),
    }


def tutorial_twins() -> tuple[jraph.GraphsTuple, TwinPairs]:
    """Return the tutorial graph and its one pair of twins."""
    graph = datasets.tutorial().graph
    return graph, twins.twin_pairs(twins.twin_classes(graph))


# --- random initialisations of the tutorial graph -----------------------------------------------


@functools.cache
def cells() -> dict[str, Cell]:
    """Return the settings that are sampled, by the suffix of their id."""

    def cell(features: FeatureName = "raw", **options: Any) -> Cell:
        layer = dataclasses.replace(LayerConfig(initializer="tutorial"), **options)
        return Cell("tutorial", layer, features)

    return {
        "gat.h8": cell(heads=8),
        "gat.h4": cell(heads=4),
        "gat.h1": cell(),
        "gat.h2": cell(heads=2),
        **{f"gatv2.h1.c{c}": cell(layer="gatv2", channels=c) for c in (8, 4, 2, 1)},
        "gat.h1.uniform01": cell("uniform01"),
        "gat.h1.normal": cell("normal"),
        "gat.h1.standardised": cell("standardised"),
        "gat.h1.residual": cell(use_residual=True),
        "gat.gaussian": cell(initializer="gaussian", use_bias=False),
        "gcn": cell(layer="gcn"),
    }


def jobs(*, num_inits: int, seed: int) -> dict[str, Callable[[], Counts]]:
    """Return what there is to compute, by the suffix of the id; heavy settings first."""
    graph, pairs = tutorial_twins()
    return {
        name: functools.partial(
            sample,
            cell,
            graph,
            pairs,
            # Of one head, so many that more than `num_inits` of them collide.
            num_inits=3 * num_inits // 2 if name == "gat.h1" else num_inits,
            seed=seed,
        )
        for name, cell in cells().items()
    }


def measurements(counts: Mapping[str, Counts]) -> dict[str, Measurement]:
    """Turn counts by suffix into measurements by id.

    The tutorial graph has one pair of twins, so pairs and initialisations are as many.
    """
    measured = {}
    for name, count in counts.items():
        if name != "gat.h1.residual":
            measured[f"init.collision.{name}"] = share(
                count.collisions, count.num_inits, _describe_causes(count)
            )
    one, eight, residual = counts["gat.h1"], counts["gat.h8"], counts["gat.h1.residual"]
    matching = one.matching_outputs / one.num_inits
    measured["init.match_4_decimals.gat.h1"] = share(
        one.matching_outputs,
        one.num_inits,
        f"{matching:.1%} of the initialisations agree to four decimals; "
        f"{one.collisions / one.num_inits:.1%} are equal exactly.",
    )
    measured["init.uniform_attention.gat.h1"] = share(
        one.uniform_attention,
        one.num_inits,
        f"Normalised entropy above 1 - {UNIFORM_DEFICIT:g} in both twins' rows: "
        f"{one.uniform_attention} of {one.num_inits} initialisations.",
    )
    measured["init.explained_by_regime.gat.h1"] = share(
        one.regime_collisions,
        one.collisions,
        f"{one.regime_collisions} of {one.collisions} collisions are in a linear regime: all "
        "logits of both rows have one sign, so the receiver's term cancels in the softmax.",
    )
    measured["init.equal_outputs.gat.h1.residual"] = share(
        residual.equal_outputs,
        residual.num_inits,
        f"{residual.collisions / residual.num_inits:.1%} of the attention rows are equal, and "
        f"{residual.equal_outputs} of {residual.num_inits} outputs: the path adds the nodes' own "
        "features.",
    )
    measured["heads.power_law.h8"] = _power_law(one, eight)
    graph, _ = tutorial_twins()
    exact = probability.gaussian_collision_probability(graph.nodes[2:], graph.nodes[1:])
    gaussian = measured["init.collision.gat.gaussian"]
    assert gaussian.low is not None
    assert gaussian.high is not None
    inside = gaussian.low <= exact.value <= gaussian.high
    measured["init.collision.gat.gaussian"] = gaussian._replace(
        exact=exact.value,
        explanation=f"The orthant probability is {exact.value:.6f} (quadrature error "
        f"{exact.error:.0e}), {'inside' if inside else 'outside'} the interval.",
    )
    return measured


def _describe_causes(count: Counts) -> str:
    shares = count.head_causes.sum(axis=0) / count.head_causes.sum()
    parts = [f"{name} {share:.1%}" for name, share in zip(CAUSES, shares, strict=True) if share > 0]
    return "Primary causes over pairs and heads: " + ", ".join(parts) + "."


def _power_law(one: Counts, eight: Counts) -> Measurement:
    """Return p_8 / p_1^8 with an interval by the delta method on its logarithm."""
    p1, p8 = one.collisions / one.num_inits, eight.collisions / eight.num_inits
    ratio = float(p8 / p1**8)
    deviation = np.sqrt((1 - p8) / (p8 * eight.num_inits) + 8**2 * (1 - p1) / (p1 * one.num_inits))
    per_head = eight.head_collisions.sum() / (8 * eight.num_inits)
    return Measurement(
        ratio,
        float(ratio * np.exp(-1.96 * deviation)),
        float(ratio * np.exp(1.96 * deviation)),
        int(eight.num_inits),
        f"p_8 = {p8:.5f}, p_1^8 = {p1**8:.5f}. One head of eight collides with probability "
        f"{per_head:.5f} beside p_1 = {p1:.5f}: this initialiser's weights shrink with the number "
        f"of heads while its bias does not; p_8 / (per-head p)^8 = {p8 / per_head**8:.4f}.",
    )


def dataset(counts: Mapping[str, Counts]) -> xr.Dataset:
    """Label the counts by `setting`, the suffix of the id."""
    names = sorted(counts)
    fields = ("num_inits", "collisions", "uniform_attention", "equal_outputs", "matching_outputs")
    variables = {
        f"init_{field}": ("setting", np.array([getattr(counts[n], field) for n in names]))
        for field in fields
    }
    low, high = binomial_interval(variables["init_collisions"][1], variables["init_num_inits"][1])
    variables["init_collision_probability"] = (
        "setting",
        variables["init_collisions"][1] / variables["init_num_inits"][1],
    )
    bounds = {"init_collision_interval": (("setting", "bound"), np.stack([low, high], axis=1))}
    causes = np.stack([counts[n].head_causes.sum(axis=0) for n in names])
    return xr.Dataset(
        variables | bounds | {"init_head_causes": (("setting", "cause"), causes)},
        coords={"setting": names, "bound": ["low", "high"], "cause": list(CAUSES)},
    )
