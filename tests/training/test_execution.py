"""Who computes a training: the same records, whoever it is."""

import logging
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from training_runs import spec_of, stored, write_inputs

from gat_jax.runtime import pool
from gat_jax.runtime.executors import TaskError
from gat_jax.training import Machine, execution, run_training, seeds
from gat_jax.training.execution import ChunkTask
from gat_jax.training.plan import prepare

FEW = {"num_seeds": 3, "measures": ()}  # a chunk of two, and one of one


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, str]:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def here(inputs, tmp_path_factory) -> dict[str, bytes]:
    """The runs of a training in this process."""
    path = tmp_path_factory.mktemp("here") / "runs.zarr"
    run_training(spec_of(inputs, **FEW), path)
    return stored(path)


def task_of(inputs, *runs: int) -> ChunkTask:
    prepared = prepare(spec_of(inputs, **FEW))
    (setting,), (key,) = prepared.settings, prepared.keys
    return ChunkTask(key, setting, prepared.task, prepared.num_classes, 0, runs)


def test_a_task_is_plain_data_with_a_name(inputs):
    task = task_of(inputs, 0, 1)
    assert str(task) == "seeds 0, 1 of recipe"
    assert task_of(inputs, 0, 1).name == task.name == pickle.loads(pickle.dumps(task)).name
    names = {task_of(inputs, *runs).name for runs in ((0, 1), (0, 2), (0,), (0, 1, 2))}
    assert len(names) == 4


def test_a_worker_says_what_its_bits_depend_on(monkeypatch):
    found = execution.describe()
    assert found["jax"] == jax.__version__
    assert set(found) >= {"gat_jax", "schema", "jaxlib", "dtype", "device", "platform"}
    monkeypatch.setattr(execution, "num_cores", lambda: 77)
    assert execution.describe() == found | {"cores": "77"}
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x --xla_cpu_enable_fast_math=true")
    assert execution.describe()["XLA_FLAGS"] == "--xla_cpu_enable_fast_math=true"


def test_a_chunk_on_a_device_has_three_programs(inputs, caplog, monkeypatch):
    """The first state lies where the others do: else its call would have a program of its own."""
    monkeypatch.setattr(seeds, "MOST_RECORDS_OF_A_CALL", 1)
    task = task_of(inputs, 0, 1, 2)  # a number of runs that no other test here has
    desk = execution.desk_of(task, jax.devices()[0])
    chunk = execution.chunk_of(task, desk)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        calls = list(seeds.compute(desk.program, chunk))
    assert len(calls) > 2
    found = re.findall(r"Finished XLA compilation of jit\((_\w+)\)", caplog.text)
    ours = [name for name in found if name in ("_start", "_advance", "_finish")]
    assert ours == ["_start", "_advance", "_finish"]


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["process", "local"])
def test_every_executor_stores_the_same_runs(inputs, here, tmp_path, executor):
    reports = []
    machine = Machine(executor="process", num_workers=2)
    if executor == "local":
        machine = Machine(scheduler="local", num_workers=2)
    path = tmp_path / "runs.zarr"
    run_training(spec_of(inputs, **FEW), path, machine=machine, on_progress=reports.append)
    assert stored(path) == here
    done = [report.done for report in reports]
    assert done == sorted(done)
    assert (done[-1], reports[-1].total) == (3, 3)


TWO_DEVICES = """
import sys
import jax
from gat_jax.training import TrainSpec, run_training
assert jax.local_device_count() == 2
data, recipe, path = sys.argv[1:]
run_training(TrainSpec(data, recipe, num_seeds=3, chunk_size=2, measures=()), path)
"""


@pytest.mark.slow
def test_two_devices_store_the_same_runs(inputs, here, tmp_path):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    path = tmp_path / "runs.zarr"
    command = [sys.executable, "-c", TWO_DEVICES, inputs["data"], inputs["recipe"], str(path)]
    subprocess.run(command, check=True, env=os.environ | {"XLA_FLAGS": flags})
    assert stored(path) == here


def test_devices_compute_chunks_side_by_side(inputs, tmp_path, monkeypatch):
    """Each has one under way; what is finished first comes first."""
    device, told = jax.local_devices()[0], []
    lengths = {(0,): 3, (1,): 1, (2,): 1}

    def calls(task, *_):
        yield from [0.5] * lengths[task.runs]
        yield {"run": task.runs}

    monkeypatch.setattr(execution, "_calls", calls)
    monkeypatch.setattr(execution, "desk_of", lambda *_: "desk")
    attended = execution.Attended(
        (device, device), tmp_path, lambda: False, lambda task, _: told.append(task.runs)
    )
    tasks = (task_of(inputs, run) for run in range(3))
    found = [task.runs for task, _ in execution.train_chunks(tasks, attended)]
    assert found == [(1,), (0,), (2,)]
    assert told == [(0,), (1,), (0,), (0,), (2,)]


def test_a_chunk_that_fails_three_times_ends_the_training_with_a_line(
    inputs, tmp_path, monkeypatch
):
    begun = []

    class Child:
        """A process in which everything fails."""

        def __init__(self, events):
            self.under_way, self._events = [], events

        def compute(self, number: int, packed: bytes) -> None:
            begun.append(number)
            self.under_way.append(number)
            answer = pool.worker.pack(("failed", "MemoryError: no", "a story"))
            self._events.put((self, pool.worker.pack((number, answer))))

        def end(self) -> str:
            return ""

    monkeypatch.setattr(pool, "_Child", Child)
    machine = Machine(executor="process", num_workers=1)
    message = "seeds 0, 1 of recipe: failed 3 times, last with MemoryError: no"
    path = tmp_path / "runs.zarr"
    with pytest.raises(TaskError, match=f"^{message}\n"):
        run_training(spec_of(inputs, num_seeds=2, measures=()), path, machine=machine)
    assert begun == [0, 0, 0]
    assert Path(path, "blocks").is_dir()


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"executor": "auto"}, "executor: expected one of thread, process, got 'auto'"),
        ({"executor": "process", "scheduler": "a"}, "executor: expected none beside a scheduler"),
        ({"scheduler": " "}, "scheduler: expected an address or local, got an empty text"),
        ({"devices": ()}, "devices: expected at least 1, got none"),
        ({"num_workers": 0}, "num_workers: expected at least 1, got 0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_machine_on_which_nothing_can_be_computed_is_refused(wish, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Machine(**wish)


def test_those_who_share_the_memory_are_counted():
    (device,) = jax.local_devices()[:1]
    assert Machine((device,) * 3).num_sharing == 3
    assert Machine((device,), "process", num_workers=5).num_sharing == 5
    assert Machine((device,), scheduler="local", num_workers=2).num_sharing == 2
