"""How many seeds are computed together, by the memory."""

import numpy as np
import pytest
from training_runs import spec_of, write_inputs

from gat_jax.runtime.blocks import Blocks
from gat_jax.training import execution, memory, records, run_training, runner
from gat_jax.training.plan import prepare
from gat_jax.training.spec import DEFAULT_MEASURES


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, str]:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def prepared(inputs):
    return prepare(spec_of(inputs, num_seeds=1, measures=(), chunk_size="auto"))


def size_of(prepared, **options) -> int:
    options = {"num_seeds": 840, "platform": "cpu", "num_sharing": 1} | options
    return memory.chunk_size(prepared.settings[0], prepared.task, **options)


@pytest.fixture
def machine(monkeypatch):
    """A function that sets what is free; n seeds take 100 + 10 n bytes, by the estimate 120 n."""
    monkeypatch.setattr(memory, "estimate", lambda *_: 120)
    monkeypatch.setattr(memory, "compiled", lambda _, __, number: 100 + 10 * number)
    return lambda free: monkeypatch.setattr(memory, "free_memory", lambda: free)


def test_as_many_seeds_as_fit_into_half_of_what_is_free(prepared, machine):
    for free, size in ((800, 8), (799, 8), (360, 8), (359, 7), (241, 2), (239, 1), (110, 1)):
        machine(free)
        assert size_of(prepared) == size
    machine(3 * 359)
    assert size_of(prepared, num_sharing=3) == 7
    machine(10**9)
    assert size_of(prepared) == 8
    assert size_of(prepared, num_seeds=1024, platform="gpu") == 32


def test_chunks_are_of_one_size_where_half_of_the_largest_is_enough(prepared, machine):
    """A size of its own for the last seeds would be a program of its own."""
    machine(10**9)
    for num_seeds, size in ((100, 5), (1000, 8), (20, 5), (14, 7), (97, 8), (3, 8), (8, 8)):
        assert size_of(prepared, num_seeds=num_seeds) == size
    assert size_of(prepared, num_seeds=100, platform="gpu") == 25
    assert [memory.even_size(1000, most) for most in (1, 2, 3, 6)] == [1, 2, 2, 5]
    machine(359)  # 7 fit
    assert size_of(prepared, num_seeds=20) == 5


def test_nothing_is_compiled_where_an_estimate_has_room_for_all_seeds(
    prepared, machine, monkeypatch
):
    machine(2 * 3 * 120)  # by the estimate 3 fit, by the programs 8 and more
    assert [size_of(prepared, num_seeds=number) for number in (4, 5)] == [8, 5]

    def compiled(*_):
        raise AssertionError("a program was compiled")

    monkeypatch.setattr(memory, "compiled", compiled)
    assert [size_of(prepared, num_seeds=number) for number in (1, 2, 3)] == [3, 2, 3]


def test_what_does_not_fit_with_one_seed_is_refused_before_it_is_tried(
    inputs, machine, tmp_path, monkeypatch
):
    machine(109)
    message = "^memory: expected at least 110 bytes for one seed of recipe, got 109 bytes; what"
    spec = spec_of(inputs, num_seeds=1, chunk_size="auto")
    with pytest.raises(ValueError, match=message):
        run_training(spec, tmp_path / "runs.zarr")


def test_an_estimate_counts_nodes_edges_and_parameters(prepared):
    # 24 nodes of 5 features, 80 edges; two heads of three channels that are averaged.
    (setting,) = prepared.settings
    graph = prepared.task.graph
    values = 24 * (5 + 6) + 2 * len(graph.senders)
    parameters = 5 * 6 + 2 * 6  # and biases
    found = memory.estimate(setting, prepared.task) - 4 * memory.BASE
    assert 4 * (16 * values + 8 * parameters) <= found <= 4 * (16 * values + 8 * (parameters + 12))


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["gat", "gatv2"])
def test_the_estimate_is_more_than_a_compiled_program_takes(inputs, layer):
    """Where it has room for the seeds, no program is asked."""
    measures = DEFAULT_MEASURES  # records are made in the program too
    spec = spec_of(inputs, num_seeds=1, layer=(layer,), measures=measures, chunk_size="auto")
    prepared = prepare(spec)
    (setting,) = prepared.settings
    alone, both = (memory.compiled(setting, prepared.task, number) for number in (1, 2))
    assert alone < both
    assert max(alone, both - alone) < memory.estimate(setting, prepared.task) < 100 * alone


def test_a_size_that_was_chosen_stays_and_is_that_of_its_number(inputs, tmp_path, monkeypatch):
    """The store of a training with a number goes on with the same keys."""
    asked = []

    def choose(*_, **__) -> int:
        asked.append(None)
        return 2

    monkeypatch.setattr(memory, "chunk_size", choose)
    auto, two = (prepare(spec_of(inputs, chunk_size=size)) for size in ("auto", 2))
    blocks = Blocks(tmp_path, schema=records.SCHEMA)
    maker = execution.describe()
    header = runner._checked_header(blocks, maker)
    for _ in range(2):
        sizes = runner._chunk_sizes(auto, header, "cpu", 1)
        assert sizes == [2]
        assert auto.in_chunks_of(sizes).keys == two.keys != auto.keys
        blocks.set_header(header)
        header = runner._checked_header(blocks, maker)
    assert len(asked) == 1
    assert runner._chunk_sizes(two, header, "cpu", 1) == [2]
    np.testing.assert_equal(header["chunk_sizes"], {auto.keys[0]: 2})
