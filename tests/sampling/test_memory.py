"""Memory is planned before anything is listed or compiled, and a plan that does not fit is told."""

import dataclasses

import numpy as np
import pytest

from gat_jax.graphs import from_edges, twins
from gat_jax.layers import LayerConfig
from gat_jax.runtime.devices import total_memory
from gat_jax.sampling import (
    Cell,
    check_memory,
    compile_memory,
    memory_limit,
    prepare_cell,
)

# (layer, channels, degree, signs alone): MiB that compiling took beyond the smallest program, of
# twins on hubs of that degree; with jaxlib 0.10.2 on a CPU. Their places are spelled out.
MEASURED = {
    ("gat", 2, 30, False): 50,
    ("gat", 2, 100, True): 140,
    ("gcn", 2, 60, False): 220,
}
# (layer, channels, heads, degree): the same, of places that are an axis.
MEASURED_WIDE = {
    ("gat", 2, 1, 60): 3,
    ("gat", 2, 1, 1500): 6,
    ("gat", 32, 1, 1500): 5,
    ("gatv2", 8, 1, 60): 4,
}
# (layer, channels, heads, twins): the same, of so many twins on two hubs, counted by class.
MEASURED_BY_CLASS = {
    ("gat", 2, 1, 1500): 58,
    ("gat", 2, 8, 1500): 63,
    ("gat", 8, 8, 1500): 49,
    ("gatv2", 2, 1, 1500): 77,
    ("gatv2", 8, 8, 1500): 97,
    ("gcn", 2, 1, 1500): 83,
    ("gat", 2, 1, 100_000): 59,
}


def shape_of(degree: int, only_signs: bool = False, both_ways: bool = False, **layer):
    """The shape of a cell whose twins are two hubs of so many senders, and these if both ways."""
    ends = np.array([(2 + k, hub) for k in range(degree) for hub in (0, 1)])
    if both_ways:
        ends = np.concatenate([ends, ends[:, ::-1]])
    num_nodes = 2 + degree
    nodes = np.arange(3.0 * num_nodes, dtype=np.float32).reshape(num_nodes, 3)
    graph = from_edges(*ends.T, nodes=nodes)
    cell = Cell("hubs", LayerConfig(initializer="tutorial", **layer))
    classes = twins.twin_classes(graph)
    return prepare_cell(cell, graph, classes, seed=0, only_signs=only_signs).shape


@pytest.mark.parametrize(("case", "mib"), MEASURED.items(), ids=str)
def test_the_estimate_is_what_was_measured(case, mib):
    layer, channels, degree, only_signs = case
    found = compile_memory(shape_of(degree, only_signs, layer=layer, channels=channels))
    assert mib / 1.5 < found / 2**20 < 2.5 * mib


@pytest.mark.parametrize(("case", "mib"), MEASURED_WIDE.items(), ids=str)
def test_a_wide_row_takes_no_more_than_is_planned(case, mib):
    layer, channels, heads, degree = case
    found = compile_memory(shape_of(degree, layer=layer, channels=channels, heads=heads))
    assert mib < found / 2**20 < 90


@pytest.mark.parametrize(("case", "mib"), MEASURED_BY_CLASS.items(), ids=str)
def test_counting_by_class_takes_no_more_than_is_planned(case, mib):
    layer, channels, heads, number = case
    shape = shape_of(number, both_ways=True, layer=layer, channels=channels, heads=heads)
    assert shape.layout.is_by_class
    assert mib / 1.1 < compile_memory(shape) / 2**20 < 2.5 * mib


def test_small_programs_take_nothing_worth_planning():
    assert compile_memory(shape_of(3, layer="gat", channels=2)) < 2**20
    assert compile_memory(shape_of(25, layer="gat", channels=2)) < 2**27


@pytest.mark.parametrize("field", ["heads", "channels"])
def test_the_estimate_grows_with_heads_and_channels_without_end(field):
    shape = shape_of(20, layer="gat", channels=2)
    sizes = [
        compile_memory(
            dataclasses.replace(shape, layer=dataclasses.replace(shape.layer, **{field: number}))
        )
        for number in (10, 1000, 10**9)
    ]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 2**43


def test_what_does_not_fit_is_refused_with_the_number_and_what_helps():
    shape = shape_of(50, layer="gat", channels=2)
    message = (
        r"memory: expected at least 2\d\d\.\d MiB to compile gat with 1 heads and 2 channels for "
        r"twins of 50 neighbours, got 128\.0 MiB; what helps: to measure collisions alone"
    )
    with pytest.raises(ValueError, match=message):
        check_memory(shape, 2**27)
    check_memory(shape, 2**28)


def test_the_limit_is_what_is_asked_for_or_a_quarter_of_what_there_is():
    assert memory_limit(17) == 17
    assert memory_limit(None) == total_memory() // 4
