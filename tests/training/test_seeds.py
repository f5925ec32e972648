"""Chunks of runs: each is what the same run is alone, and calls may be cut anywhere."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from helpers import assert_close
from training_runs import NUM_SPLITS, spec_of, write_inputs, write_splits

from gat_jax.graphs import load_task
from gat_jax.kernels import SparseFeatures
from gat_jax.layers import apply_network, init_network
from gat_jax.training import load_recipe, seeds, train_run
from gat_jax.training.plan import prepare
from gat_jax.training.seeds import Chunk, Program, Progress

RUNS = (0, 1, 4)
SEED = 3
# A vmapped program adds up in another order than one of a single run.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_inputs(tmp_path_factory.mktemp("seeds"))


def program_of(inputs, **fields) -> tuple[Program, Chunk]:
    """The program and the chunk of the runs above, as the runner makes them."""
    prepared = prepare(spec_of(inputs, **fields))
    (setting,) = prepared.settings
    recipe = setting.recipe
    layer = recipe.settings.layer
    data = seeds.prepare_data(prepared.task, recipe)
    program = Program(
        recipe.configs(prepared.num_classes),
        recipe.train_config(prepared.num_classes),
        has_dropout=layer.feature_dropout > 0,
    )
    splits = np.array([run % NUM_SPLITS for run in RUNS], np.int32)
    return program, Chunk(data, recipe.settings, seeds.keys_of(SEED, RUNS), splits)


def bits(tree) -> list[bytes]:
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def program(inputs):
    return program_of(inputs)


RECORDS_OF_A_CALL = 4


@pytest.fixture(autouse=True, scope="module")
def _short_calls():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seeds, "MOST_RECORDS_OF_A_CALL", RECORDS_OF_A_CALL)
        yield


@pytest.fixture(scope="module")
def calls(program, _short_calls):
    """All that a chunk yields."""
    return list(seeds.compute(*program))


@pytest.mark.few(1)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_vmapped_run_is_the_same_seed_alone_on_its_split(inputs, dropout):
    rates = {"feature_dropout": (dropout,), "attention_dropout": (dropout,)}
    program, chunk = program_of(inputs, **rates)
    *_, (history, outcome) = seeds.compute(program, chunk)
    data, task = chunk.data, load_task(inputs["data"])

    @functools.partial(jax.jit, static_argnums=1)
    def alone(run, has_dropout, train, validation):
        key = jax.random.fold_in(jax.random.key(SEED), run)
        params = init_network(jax.random.fold_in(key, 0), program.configs, 5)
        params, history = train_run(
            params,
            jax.random.fold_in(key, 1) if has_dropout else None,
            task=data.task._replace(label_mask=train, validation_mask=validation),
            configs=program.configs,
            config=dataclasses.replace(program.config, measures=()),
            settings=chunk.settings,
        )
        return apply_network(params, data.task.graph, program.configs)[0], history

    assert task.splits is not None
    for place, run in enumerate(RUNS):
        split = [mask[run % NUM_SPLITS] for mask in task.splits]
        logits, expected = alone(run, dropout > 0, *split[:2])
        assert history.status[place] == expected.status == -1
        np.testing.assert_array_equal(history.step[place], expected.step)
        is_made = np.append(True, np.diff(expected.step) > 0)  # then the last state is repeated
        for name in ("loss", "validation_loss", "twin_gap"):
            found = getattr(history, name)[place][is_made]
            assert_close(found, np.asarray(getattr(expected, name))[is_made], TOLERANCE)
        is_right = np.argmax(logits, axis=1) == task.labels
        for name, mask in zip(("train", "validation", "test"), split, strict=True):
            assert getattr(outcome, f"{name}_score")[place] == pytest.approx(is_right[mask].mean())
        contested = split[2] & np.asarray(data.is_contested)
        assert contested.any()
        others = is_right[split[2] & ~contested].mean()
        assert outcome.contested_accuracy[place] == pytest.approx(is_right[contested].mean())
        assert outcome.other_accuracy[place] == pytest.approx(others)
        assert outcome.test_accuracy[place] == outcome.test_score[place]
    assert len(set(outcome.num_steps.tolist())) > 1  # each stops by itself


def test_test_nodes_choose_nothing(program, calls):
    program, chunk = program
    data = chunk.data
    labels, scores = np.asarray(data.task.labels), []
    for split in range(NUM_SPLITS):  # test nodes of one split are others of the other split
        runs = [place for place, run in enumerate(RUNS) if run % NUM_SPLITS == split]
        changed = np.where(np.asarray(data.test)[split], (labels + 1) % 3, labels)
        changed = changed.astype(labels.dtype)
        other = chunk._replace(data=data._replace(task=data.task._replace(labels=changed)))
        *_, (history, outcome) = seeds.compute(program, other)
        kept = [
            name
            for name in outcome._fields
            if name.startswith(("train", "validation", "kept", "num", "status"))
        ]
        assert len(kept) == 6
        before, expected = calls[-1]
        for run in runs:
            made = int(expected.num_steps[run]) // 2 + 1  # later records depend on the chunk's end
            for found, wanted in zip(history[:-1], before[:-1], strict=True):
                assert bits(jax.tree.map(lambda x, k=run, m=made: x[k, :m], found)) == bits(
                    jax.tree.map(lambda x, k=run, m=made: x[k, :m], wanted)
                )
        for name in kept:
            found = getattr(outcome, name)[runs]
            np.testing.assert_array_equal(found, getattr(expected, name)[runs])
        scores.append((outcome.test_score[runs], expected.test_score[runs]))
    assert any((found != wanted).any() for found, wanted in scores)


def test_the_distribution_of_entropy_is_that_of_the_state_that_is_kept(inputs):
    """It is there whether measures are recorded or not."""
    name, options = "entropy_histogram", {"record_every": 1, "num_steps": 12}
    *_, (history, outcome) = seeds.compute(*program_of(inputs, measures=(name,), **options))
    assert outcome.kept_entropy_histogram.shape == (len(RUNS), 1, 2, 50)
    found, differ = outcome.kept_entropy_histogram, []
    for run, kept in enumerate(outcome.kept_step):
        np.testing.assert_allclose(found[run], history.measures[name][run, kept], atol=0.05)
        differ.append(np.abs(found[run] - history.measures[name][run, [0, -1]]).max(axis=(1, 2, 3)))
    assert np.max(differ, axis=0).min() > 0.05  # neither the start nor the end


def test_a_chunk_ends_once_its_runs_have_stopped_and_goes_on_anywhere(program, calls):
    """Also one that goes on when they all have: what it would record is not what ends it."""
    *progress, expected = calls
    history, outcome = expected
    assert history.loss.shape == (len(RUNS), 21)
    num_made = progress[-1].history().step.shape[1]
    assert num_made == -(-outcome.num_steps.max() // 2)  # of two steps each
    assert num_made < progress[-1].num_begun < 20
    np.testing.assert_array_equal(history.step[:, -1], outcome.num_steps)
    for before in progress:
        assert bits(list(seeds.compute(*program, before))[-1]) == bits(expected)


def test_no_bit_depends_on_how_many_records_a_call_makes(program, calls):
    """A chunk goes on from any record, and its calls then begin at other ones."""
    start = Progress(seeds.start(*program), (), np.int32(0))
    for number in (1, 3):
        given = np.int32(number)
        options = {"program": program[0], "most": RECORDS_OF_A_CALL}
        state, records, num_made, _ = seeds._advance(start.state, program[1], given, **options)
        assert num_made == number
        records = jax.tree.map(lambda x, n=number: x[:, :n], records)
        *_, found = seeds.compute(*program, Progress(state, (records,), num_made))
        assert bits(found) == bits(calls[-1])


@pytest.mark.parametrize(
    ("num_runs", "num_nodes", "record_every", "number"),
    [(8, 5, 10, 10), (8, 5, 240, 3), (80, 5, 240, 1), (1, 10**6, 1, 1)],
)
def test_a_call_makes_fewer_records_of_larger_work(
    program, monkeypatch, num_runs, num_nodes, record_every, number
):
    monkeypatch.setattr(seeds, "MOST_RECORDS_OF_A_CALL", 10)
    program, chunk = program
    graph = chunk.data.task.graph._replace(nodes=np.broadcast_to(np.float32(0), (num_nodes, 5)))
    task = chunk.data.task._replace(graph=graph)
    chunk = chunk._replace(data=chunk.data._replace(task=task), splits=np.zeros(num_runs, int))
    config = dataclasses.replace(
        program.config, num_steps=10 * record_every, record_every=record_every
    )
    found = seeds.records_of_a_call(program._replace(config=config), chunk)
    assert found == number


def test_a_run_that_is_no_number_says_so_and_spoils_no_other(program, calls):
    before, (_, expected) = calls[0], calls[-1]
    state = before.state
    params = jax.tree.map(lambda x: x.at[1].set(np.nan), state.params)
    spoilt = before._replace(state=state._replace(params=params))
    *_, (history, outcome) = seeds.compute(*program, spoilt)
    assert outcome.status.tolist() == [-1, 2 * RECORDS_OF_A_CALL, -1]
    assert np.isnan(history.loss[1, RECORDS_OF_A_CALL:]).all()
    assert np.isfinite(history.loss[1, :RECORDS_OF_A_CALL]).all()
    others = [0, 2]
    for found, wanted in zip(outcome, expected, strict=True):
        np.testing.assert_array_equal(found[others], wanted[others])


def test_shapes_are_those_of_a_chunk_after_one_call(program, calls):
    shapes, first = seeds.shapes_of(*program), calls[0]
    assert isinstance(first, Progress)
    found, expected = (
        jax.tree.map(lambda x: (x.shape, x.dtype), progress) for progress in (shapes, first)
    )
    assert found == expected


def test_keys_are_the_runs_own_whatever_the_chunk():
    keys = jax.random.key_data(seeds.keys_of(2**32 - 1, range(6)))
    assert len(np.unique(keys, axis=0)) == 6
    one = jax.random.key_data(seeds.keys_of(2**32 - 1, [4]))
    np.testing.assert_array_equal(keys[4], one[0])
    assert (keys != jax.random.key_data(seeds.keys_of(0, range(6)))).any()


def test_contested_are_twins_with_a_twin_of_another_label(tmp_path):
    """Twins 0-2, 1-3 and 4-5-6-7; 8 to 11 feed them, and 12 is one more of the first pair."""
    hear = {8: (0, 2, 12), 9: (1, 3, 4, 5, 6, 7), 10: (4, 5, 6, 7), 11: (0, 2, 12)}
    senders, receivers = np.array([(s, r) for s, rs in hear.items() for r in rs]).T
    labels = np.array([0, 1, 1, 1, 2, 2, 0, 0, 0, 1, 2, 0, 0])
    num_nodes = len(labels)
    is_known = np.ones(num_nodes, bool)
    is_known[7] = False  # a node without a label contests nothing and is not contested
    # The pair 1-3 hears node 9 alone: trivial twins, whose rows are equal whatever happens.
    write_splits(
        tmp_path / "g.npz",
        senders=senders,
        receivers=receivers,
        labels=labels,
        labelled=is_known,
        feat_data=np.arange(num_nodes, dtype=np.float32) + 1,
        feat_indices=np.zeros(num_nodes, int),
        feat_indptr=np.arange(num_nodes + 1),
        feat_shape=np.array([num_nodes, 1]),
        **dict.fromkeys(("train_masks", "val_masks", "test_masks")),
    )
    task = load_task(tmp_path / "g.npz")
    data = seeds.prepare_data(task, load_recipe("tutorial"))
    assert np.flatnonzero(data.is_contested).tolist() == [0, 2, 4, 5, 6, 12]
    for mask in (data.train, data.validation, data.test):  # of a graph without splits
        np.testing.assert_array_equal(mask, is_known[None])


def test_data_are_laid_out_as_the_recipe_says(inputs):
    task, recipe = load_task(inputs["data"]), load_recipe(inputs["recipe"])
    data = seeds.prepare_data(task, recipe)
    assert data.task.layout.name == "bucketed"  # what auto chooses on a CPU
    as_list = dataclasses.replace(recipe, layout="segment")
    found = seeds.prepare_data(task, as_list)
    assert found.task.layout.name == "segment"
    nodes = np.asarray(data.task.graph.nodes)
    np.testing.assert_allclose(nodes.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(nodes.std(axis=0), 1, rtol=1e-5)
    assert task.splits is not None
    for found, expected in zip(data[1:4], task.splits, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("layout", "is_sparse"), [("auto", True), ("segment", False)])
def test_features_stay_dense_beside_a_list_of_edges(inputs, layout, is_sparse):
    task, recipe = load_task(inputs["data"]), load_recipe("tutorial")
    few = np.zeros((len(task.graph.nodes), 100), np.float32)
    few[:, 3] = 1
    task = task._replace(graph=task.graph._replace(nodes=few))
    recipe = dataclasses.replace(recipe, layout=layout)
    data = seeds.prepare_data(task, recipe)
    assert isinstance(data.task.graph.nodes, SparseFeatures) == is_sparse
    np.testing.assert_array_equal(np.asarray(data.task.graph.nodes), few)
