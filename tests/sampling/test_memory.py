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
    check_pairs,
    compile_memory,
    memory_limit,
    prepare_cell,
)

# (layer, channels, degree, signs alone): MiB that compiling took beyond the smallest program, of
# twins on hubs of that degree; with jaxlib 0.10.2 on a CPU.
MEASURED = {
    ("gat", 2, 30, False): 50,
    ("gat", 2, 60, False): 290,
    ("gat", 2, 150, False): 4000,
    ("gat", 2, 300, False): 23_000,
    ("gat", 8, 60, False): 420,
    ("gat", 2, 100, True): 140,
    ("gcn", 2, 60, False): 220,
    ("gatv2", 2, 60, False): 1000,
    ("gatv2", 2, 130, False): 8300,
    ("gatv2", 8, 30, False): 1730,
    ("gatv2", 8, 60, False): 10_200,
}


def shape_of(degree: int, only_signs: bool = False, **layer):
    """The shape of a cell whose twins are two hubs of so many senders."""
    senders, receivers = zip(*[(2 + k, hub) for k in range(degree) for hub in (0, 1)], strict=True)
    num_nodes = 2 + degree
    nodes = np.arange(3.0 * num_nodes, dtype=np.float32).reshape(num_nodes, 3)
    graph = from_edges(np.array(senders), np.array(receivers), nodes=nodes)
    pairs = twins.twin_pairs(twins.twin_classes(graph))
    cell = Cell("hubs", LayerConfig(initializer="tutorial", **layer))
    return prepare_cell(cell, graph, pairs, seed=0, only_signs=only_signs).shape


@pytest.mark.parametrize(("case", "mib"), MEASURED.items(), ids=str)
def test_the_estimate_is_what_was_measured(case, mib):
    layer, channels, degree, only_signs = case
    found = compile_memory(shape_of(degree, only_signs, layer=layer, channels=channels))
    assert mib / 1.5 < found / 2**20 < 2.5 * mib


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
    shape = shape_of(150, layer="gat", channels=2)
    message = (
        r"memory: expected at least 3\.\d GiB to compile gat with 1 heads and 2 channels for twins "
        r"of 150 neighbours, got 1\.0 GiB; what helps: to measure collisions alone, more memory"
    )
    with pytest.raises(ValueError, match=message):
        check_memory(shape, 2**30)
    check_memory(shape, 2**33)
    with pytest.raises(ValueError, match=r"memory: expected at least .* for 5000000000 pairs of"):
        check_pairs(5_000_000_000, 2**40, "star")
    check_pairs(41_000, 2**30, "actor")


def test_the_limit_is_what_is_asked_for_or_a_quarter_of_what_there_is():
    assert memory_limit(17) == 17
    assert memory_limit(None) == total_memory() // 4
