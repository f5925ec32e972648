"""What holds of each pair of twins in each of many initialisations: causes, gaps, entropies.

The pairs are those that a layout compares, which may be a sample; then it also holds what is known
of all pairs together.
"""

import functools
import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gat_jax.kernels import Scalar
from gat_jax.layers import LayerConfig, LayerParams
from gat_jax.runtime.programs import apart
from gat_jax.sampling.class_facts import ClassFacts, measure_classes
from gat_jax.sampling.row_forms import RowForm, choose_form
from gat_jax.sampling.twin_layout import TwinLayout
from gat_jax.sampling.twin_rows import (
    Flags,
    RowFacts,
    Values,
    all_signs,
    measure_rows,
    pick_rows,
    project_nodes,
)
from gat_jax.symmetry import CAUSES, exact_causes, is_within_rounding, primary_of


class PairFacts(NamedTuple):
    """What holds of each compared pair: P pairs, R twins, H heads, T initialisations.

    Averaged heads (`concat=False`) have one gap and one match for all heads: there H is 1.
    """

    causes: Int[Array, "pairs heads inits"]  # primary cause, index into CAUSES
    in_regime: Bool[Array, "pairs heads inits"]  # all logits of both rows have one sign
    # The rest needs attention weights: None where only signs are asked for.
    gap: Float[Array, "pairs heads_or_1 inits"] | None  # of the merged outputs, largest by head
    is_matching: Bool[Array, "pairs heads_or_1 inits"] | None  # outputs equal to 4 decimals
    deficit: Float[Array, "receivers heads inits"] | None  # 1 - normalised entropy, by row
    by_class: ClassFacts | None = None  # of all pairs, where not all are compared


def measure_pairs(
    params: LayerParams,
    nodes: Float[Array, "nodes features inits"],
    layout: TwinLayout,
    config: LayerConfig,
    *,
    slope: Scalar,
    is_monotone: bool = True,
    only_signs: bool = False,
) -> PairFacts:
    """Apply a layer to the twins and look at every pair.

    Args:
      params: of one head, leaves [..., B]: all heads of all initialisations are on the last axis,
        head 0 of all first. The residual path of averaged heads is that of head 0.
      nodes: [N, F, T] features of the layout's nodes in every initialisation, or [N, F, 1].
      layout: of the twins.
      config: of the layer, with all its heads; biases after merging are left out.
      slope: of the LeakyReLU; may be traced.
      is_monotone: whether the slope is >= 0; static.
      only_signs: leave out what needs attention weights; a pair is equal by signs, or `separated`.
    """
    if nodes.shape[-1] > 1:
        nodes = jnp.tile(nodes, config.heads)
    form = choose_form(layout, nodes.shape[1], config.channels)

    # Else a node would be projected anew for each of its rows, a row computed anew for each of its
    # pairs, and a pair for each of its counts.
    @apart
    def project(params, nodes):
        return project_nodes(params, nodes, config, form, only_signs=only_signs)

    @apart
    def measure(params, nodes, slope):
        return measure_rows(
            params,
            nodes,
            layout,
            config,
            form,
            slope=slope,
            is_monotone=is_monotone,
            only_signs=only_signs,
        )

    @apart
    def compare(first, second, slope):
        return compare_rows(first, second, config, form, slope=slope)

    rows = measure(params, project(params, nodes), slope)
    facts = [
        compare(pick_rows(form, rows, i), pick_rows(form, rows, k), slope)
        for i, k in form.pairs(layout)
    ]
    fields = [None if x[0] is None else form.join_pairs(x) for x in zip(*facts, strict=True)]
    deficit = rows.deficit
    if isinstance(deficit, list):
        deficit = jnp.stack(deficit)

    def by_head(x: Array | None) -> Array | None:
        return None if x is None else x.reshape(len(x), -1, num_inits)

    causes, in_regime, gap, is_matching = fields
    assert causes is not None
    assert in_regime is not None
    num_inits = causes.shape[-1] // config.heads
    by_class = None
    if layout.is_by_class:
        by_class = measure_classes(all_signs(rows), layout, heads=config.heads, slope=slope)
    return PairFacts(
        causes.reshape(len(causes), -1, num_inits),
        in_regime.reshape(len(causes), -1, num_inits),
        by_head(gap),
        by_head(is_matching),
        by_head(deficit),
        by_class,
    )


def compare_rows(
    first: RowFacts, second: RowFacts, config: LayerConfig, form: RowForm, *, slope: Scalar
) -> tuple[Array, Array, Array | None, Array | None]:
    """Compare rows: the first four fields of `PairFacts`, [B] or [P, B].

    Args:
      first: rows of the pairs' first twins.
      second: rows of their second twins.
      config: of the layer.
      form: in which the rows were computed.
      slope: of the LeakyReLU.
    """
    if first.deficit is None:
        return *_causes(first, second, None, slope), None, None
    is_rounding, gap = _gap_of_heads(first.outputs, second.outputs)
    causes = _causes(first, second, is_rounding, slope)
    outputs = first.outputs, second.outputs
    if first.residual or not config.concat:
        outputs = tuple(_merge(x.outputs, x.residual, config) for x in (first, second))
        gap = _largest([jnp.abs(a - b) for a, b in zip(*outputs, strict=True)])
    is_matching = _all(
        [form.nearest(a * 1e4) == form.nearest(b * 1e4) for a, b in zip(*outputs, strict=True)]
    )
    return *causes, gap, is_matching


def _causes(
    first: RowFacts, second: RowFacts, is_rounding: Flags | None, slope: Scalar
) -> tuple[Array, Array]:
    """Return the primary cause, and whether a pair is in a regime; as `symmetry.pair_causes`.

    Args:
      first: rows of the pairs' first twins.
      second: rows of their second twins.
      is_rounding: whether the outputs are equal to rounding; None where there are none.
      slope: of the LeakyReLU.
    """
    causes = exact_causes(first.signs, second.signs, slope=slope, all_parts=_all)
    if is_rounding is not None:
        causes["rounding"] = is_rounding
    is_finite = _all(first.signs.is_finite) & _all(second.signs.is_finite)
    primary = jnp.where(is_finite, primary_of(causes), CAUSES.index("undefined"))
    return primary, is_finite & (causes["positive"] | causes["negative"])


def _gap_of_heads(first: list[Values], second: list[Values]) -> tuple[Flags, Values]:
    """Return whether outputs are equal to 4 ulp of the largest, and their largest difference."""
    gap = _largest([jnp.abs(a - b) for a, b in zip(first, second, strict=True)])
    size = _largest([jnp.abs(a) for a in [*first, *second]])
    return is_within_rounding(gap, size), gap


def _merge(outputs: list[Values], residual: list[Values], config: LayerConfig) -> list[Array]:
    """Average the heads if they are not concatenated, and add the residual path if there is one."""
    if not config.concat:

        def by_head(x: Values) -> Array:
            return x.reshape(*x.shape[:-1], config.heads, -1)

        outputs = [jnp.mean(by_head(x), axis=-2) for x in outputs]
        residual = [by_head(x)[..., 0, :] for x in residual]
    if not residual:
        return outputs
    return [a + b for a, b in zip(outputs, residual, strict=True)]


def _all(flags: Sequence[Flags]) -> Flags:
    return functools.reduce(operator.and_, flags)


def _largest(values: Sequence[Values]) -> Values:
    return functools.reduce(jnp.maximum, values)
