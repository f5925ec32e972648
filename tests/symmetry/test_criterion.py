"""The criterion without a graph, against attention rows in float64."""

import functools

import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from helpers import SLOPES

from gat_jax.symmetry import criterion

NUM_PAIRS, SUPPORT = 2000, 3


def draw(seed: int, *parts: int):
    """Queries [P, 2, *parts] and senders' terms [P, S, *parts]; whole numbers tie and vanish."""
    rng = np.random.default_rng(seed)
    shapes = (NUM_PAIRS, 2, *parts), (NUM_PAIRS, SUPPORT, *parts)
    return [rng.integers(-2, 3, shape).astype(np.float64) for shape in shapes]


def signs(query, terms):
    lowest, highest = terms.min(axis=1), terms.max(axis=1)
    return [
        criterion.signs_of_rows(*(jnp.asarray(x) for x in (query[:, k], lowest, highest)))
        for k in (0, 1)
    ]


def attention_rows(query, terms, slope):
    """Softmax of the LeakyReLU [2, P, S]."""
    logits = query.swapaxes(0, 1)[:, :, None] + terms[None]
    weights = np.exp(oracle.leaky_relu(logits, slope))
    return weights / weights.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("slope", SLOPES)
def test_exact_causes_hold_if_and_only_if_rows_are_equal(slope, x64):
    query, terms = draw(0)
    first, second = signs(query, terms)
    causes = criterion.exact_causes(first, second, slope=slope, all_parts=lambda part: part)
    rows = attention_rows(query, terms, slope)
    is_equal = np.abs(rows[0] - rows[1]).max(axis=-1) < 1e-9
    np.testing.assert_array_equal(functools.reduce(np.logical_or, causes.values()), is_equal)
    assert not causes["channelwise"].any()  # a score of one part has no channels
    for name in ("positive", "negative", "uniform", "equal_query"):
        assert causes[name].any(), name


def test_parts_may_be_an_axis_or_a_list(x64):
    query, terms = draw(1, 4)
    by_axis = criterion.exact_causes(
        *signs(query, terms), slope=0.2, all_parts=lambda part: jnp.all(part, axis=-1)
    )
    separate = [signs(query[..., d], terms[..., d]) for d in range(4)]
    lists = (
        criterion.RowSigns(*map(list, zip(*rows, strict=True)))
        for rows in zip(*separate, strict=True)
    )
    by_list = criterion.exact_causes(
        *lists, slope=0.2, all_parts=lambda parts: functools.reduce(jnp.logical_and, parts)
    )
    assert by_axis.keys() == by_list.keys()
    for name, value in by_axis.items():
        np.testing.assert_array_equal(value, by_list[name], err_msg=name)
    assert by_axis["channelwise"].any()


def test_a_part_that_does_not_count_decides_nothing(x64):
    query, terms = draw(2, 2)
    is_dead = jnp.broadcast_to(jnp.array([False, True]), (NUM_PAIRS, 2))
    rows = [x._replace(is_uniform=x.is_uniform | is_dead) for x in signs(query, terms)]
    ends = (jnp.asarray(x) for x in (query[:, 0], terms.min(1), terms.max(1)))
    np.testing.assert_array_equal(criterion.signs_of_rows(*ends, is_dead=is_dead)[2], rows[0][2])
    found = criterion.exact_causes(*rows, slope=0.2, all_parts=lambda part: part.all(-1))
    alone = criterion.exact_causes(
        *signs(query[..., 0], terms[..., 0]), slope=0.2, all_parts=lambda part: part
    )
    np.testing.assert_array_equal(
        functools.reduce(np.logical_or, found.values()),
        functools.reduce(np.logical_or, alone.values()),
    )


def test_everything_holds_of_a_row_without_edges():
    infinity = jnp.array([jnp.inf])
    row = criterion.signs_of_rows(jnp.array([3.0]), infinity, -infinity)
    assert all(x[0] for x in (row.is_positive, row.is_negative, row.is_uniform))


def test_uniform_is_to_four_units_in_the_last_place():
    eps = np.finfo(np.float32).eps
    lowest = jnp.array([1.0, 1.0, -1.0, 0.0])
    highest = jnp.array([1.0 + 4 * eps, 1.0 + 6 * eps, -1.0 + 2 * eps, 1e-30])
    found = criterion.signs_of_rows(jnp.zeros(4), lowest, highest).is_uniform
    assert found.tolist() == [True, False, True, False]


def test_primary_of_is_the_first_cause_that_holds():
    causes = {
        "uniform": jnp.array([True, True, False]),
        "positive": jnp.array([True, False, False]),
    }
    names = [criterion.CAUSES[k] for k in criterion.primary_of(causes)]
    assert names == ["positive", "uniform", "separated"]
