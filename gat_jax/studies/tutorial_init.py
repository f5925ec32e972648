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
from gat_jax.studies import claim_ids
from gat_jax.studies.claim_ids import GAUSSIAN, GCN, ONE_HEAD, RESIDUAL, Setting
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
        claim_ids.TUTORIAL_ERROR: deterministic(
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
    graph = datasets.load_task("tutorial").graph
    return graph, twins.twin_pairs(twins.twin_classes(graph))


# --- random initialisations of the tutorial graph -----------------------------------------------


@functools.cache
def cells() -> dict[Setting, Cell]:
    """Return what is sampled, by setting, in the order of their work: heavy ones first."""

    def cell(features: FeatureName = "raw", **options: Any) -> Cell:
        layer = dataclasses.replace(LayerConfig(initializer="tutorial"), **options)
        return Cell("tutorial", layer, features)

    kinds: tuple[FeatureName, ...] = ("uniform01", "normal", "standardised")
    return {
        **{Setting("gat", h): cell(heads=h) for h in (8, 4, 1, 2)},
        **{Setting("gatv2", 1, c): cell(layer="gatv2", channels=c) for c in (8, 4, 2, 1)},
        **{Setting("gat", 1, variant=features): cell(features) for features in kinds},
        RESIDUAL: cell(use_residual=True),
        GAUSSIAN: cell(initializer="gaussian", use_bias=False),
        GCN: cell(layer="gcn"),
    }


def jobs(*, num_inits: int, seed: int) -> dict[Setting, Callable[[], Counts]]:
    """Return what there is to compute, by setting; heavy settings first."""
    graph, pairs = tutorial_twins()
    return {
        setting: functools.partial(
            sample,
            cell,
            graph,
            pairs,
            # Of one head, so many that more than `num_inits` of them collide.
            num_inits=3 * num_inits // 2 if setting == ONE_HEAD else num_inits,
            seed=seed,
        )
        for setting, cell in cells().items()
    }


def measurements(counts: Mapping[Setting, Counts]) -> dict[str, Measurement]:
    """Turn counts by setting into measurements by id.

    The tutorial graph has one pair of twins, so pairs and initialisations are as many.
    """
    measured = {
        claim_ids.of_init("collision", setting): share(
            count.collisions, count.num_inits, _describe_causes(count)
        )
        for setting, count in counts.items()
        if setting != RESIDUAL
    }
    measured |= _of_one_head(counts[ONE_HEAD])
    residual = counts[RESIDUAL]
    measured[claim_ids.of_init("equal_outputs", RESIDUAL)] = share(
        residual.equal_outputs,
        residual.num_inits,
        f"{residual.collisions / residual.num_inits:.1%} of the attention rows are equal, and "
        f"{residual.equal_outputs} of {residual.num_inits} outputs: the path adds the nodes' own "
        "features.",
    )
    measured[claim_ids.POWER_LAW] = _power_law(counts[ONE_HEAD], counts[Setting("gat", 8)])
    gaussian = claim_ids.of_init("collision", GAUSSIAN)
    measured[gaussian] = _with_exact_value(measured[gaussian])
    return measured


def _of_one_head(one: Counts) -> dict[str, Measurement]:
    matching = one.matching_outputs / one.num_inits
    return {
        claim_ids.of_init("match_4_decimals", ONE_HEAD): share(
            one.matching_outputs,
            one.num_inits,
            f"{matching:.1%} of the initialisations agree to four decimals; "
            f"{one.collisions / one.num_inits:.1%} are equal exactly.",
        ),
        claim_ids.of_init("uniform_attention", ONE_HEAD): share(
            one.uniform_attention,
            one.num_inits,
            f"Normalised entropy above 1 - {UNIFORM_DEFICIT:g} in both twins' rows: "
            f"{one.uniform_attention} of {one.num_inits} initialisations.",
        ),
        claim_ids.of_init("explained_by_regime", ONE_HEAD): share(
            one.regime_collisions,
            one.collisions,
            f"{one.regime_collisions} of {one.collisions} collisions are in a linear regime: all "
            "logits of both rows have one sign, so the receiver's term cancels in the softmax.",
        ),
    }


def _with_exact_value(gaussian: Measurement) -> Measurement:
    graph, _ = tutorial_twins()
    exact = probability.gaussian_collision_probability(graph.nodes[2:], graph.nodes[1:])
    assert gaussian.low is not None
    assert gaussian.high is not None
    inside = gaussian.low <= exact.value <= gaussian.high
    return gaussian._replace(
        exact=exact.value,
        explanation=f"The orthant probability is {exact.value:.6f} (quadrature error "
        f"{exact.error:.0e}), {'inside' if inside else 'outside'} the interval.",
    )


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


def dataset(counts: Mapping[Setting, Counts]) -> xr.Dataset:
    """Label the counts by `setting`, the end of the id."""
    by_name = {setting.name: count for setting, count in counts.items()}
    names = sorted(by_name)
    fields = ("num_inits", "collisions", "uniform_attention", "equal_outputs", "matching_outputs")
    variables = {
        f"init_{field}": ("setting", np.array([getattr(by_name[n], field) for n in names]))
        for field in fields
    }
    low, high = binomial_interval(variables["init_collisions"][1], variables["init_num_inits"][1])
    variables["init_collision_probability"] = (
        "setting",
        variables["init_collisions"][1] / variables["init_num_inits"][1],
    )
    bounds = {"init_collision_interval": (("setting", "bound"), np.stack([low, high], axis=1))}
    causes = np.stack([by_name[n].head_causes.sum(axis=0) for n in names])
    return xr.Dataset(
        variables | bounds | {"init_head_causes": (("setting", "cause"), causes)},
        coords={"setting": names, "bound": ["low", "high"], "cause": list(CAUSES)},
    )
