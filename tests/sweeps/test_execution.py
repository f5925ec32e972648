"""Who computes a sweep: workers that fit, the executor that "auto" takes, the same bits."""

from types import SimpleNamespace

import jax
import pytest
from sweep_runs import assert_identical, signs_spec

from gat_jax import sampling
from gat_jax.runtime.blocks import Blocks
from gat_jax.sweeps import Machine, execution, prepare, records, run_sweep

DEVICE = jax.local_devices()[0]


class Cells:
    """A sweep whose tiles are counted and not computed."""

    def __init__(self, tmp_path, num_inits: int, seconds: float, monkeypatch):
        self.timed = []

        def seconds_of_call(prepared) -> float:
            self.timed.append(prepared)
            return seconds

        load = SimpleNamespace(
            program=SimpleNamespace(tiles_per_call=2), seconds_of_call=seconds_of_call
        )
        monkeypatch.setattr(Machine, "load_of", lambda *_: load)
        self.cells = prepare(signs_spec(num_inits=num_inits))
        self.blocks = Blocks(tmp_path, schema=records.SCHEMA)

    def decide(self, **fields) -> str:
        machine = Machine(**{"devices": (DEVICE,) * 2} | fields)
        return execution.decided(machine, self.cells, self.blocks).executor


def test_auto_takes_processes_for_long_sweeps_alone(tmp_path, monkeypatch):
    long = Cells(tmp_path, 10**9, 1.0, monkeypatch)
    assert long.decide() == "process"
    assert len(long.timed) == 1
    assert long.decide(executor="thread") == "thread"
    assert long.decide(devices=(DEVICE,)) == "thread"
    assert len(long.timed) == 1  # what is decided already is not timed
    (prepared,) = long.cells.prepared.values()
    little = 2 * sampling.compile_memory(prepared.shape) - 2
    assert long.decide(memory=little) == "thread"  # two processes would not fit
    fast = Cells(tmp_path, 10**9, 1e-6, monkeypatch)
    assert (fast.decide(), len(fast.timed)) == ("thread", 1)
    short = Cells(tmp_path, 10**6, 1.0, monkeypatch)
    assert (short.decide(), len(short.timed)) == ("thread", 0)
    assert short.decide(executor="process") == "process"


def test_what_is_stored_is_not_counted_as_work(tmp_path, monkeypatch):
    sweep = Cells(tmp_path, 10**9, 1.0, monkeypatch)
    monkeypatch.setattr(Blocks, "present", lambda *_: range(10**9 // 131072))
    assert (sweep.decide(), len(sweep.timed)) == ("thread", 0)


def test_processes_that_do_not_fit_are_refused_before_they_start(tmp_path, monkeypatch):
    sweep = Cells(tmp_path, 10**9, 1.0, monkeypatch)
    (prepared,) = sweep.cells.prepared.values()
    needed = sampling.compile_memory(prepared.shape)
    assert sweep.decide(executor="process", memory=2 * needed) == "process"
    with pytest.raises(ValueError, match=r"memory: expected at least .* to compile"):
        sweep.decide(executor="process", memory=2 * needed - 2)
    assert sweep.decide(executor="thread", memory=needed) == "thread"


@pytest.mark.parametrize("field", ["executor", "scheduler"])
def test_distributed_processes_have_no_workers_of_their_own(tmp_path, monkeypatch, field):
    sweep = Cells(tmp_path, 1000, 1.0, monkeypatch)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    machine = Machine(**{field: {"executor": "process", "scheduler": "there"}[field]})

    def begin() -> None:
        with execution.workers_of(machine, bool, print, print):
            execution.decided(machine, sweep.cells, sweep.blocks)

    with pytest.raises(ValueError, match=f"^{field}: expected none beside `distributed`, got"):
        begin()


def test_processes_write_what_this_process_writes(tmp_path):
    spec, paths = signs_spec(keep="raw"), [tmp_path / "thread.zarr", tmp_path / "process.zarr"]
    for path, executor in zip(paths, ("thread", "process"), strict=True):
        machine = Machine((DEVICE,) * (2 if executor == "process" else 1), executor=executor)
        reports = []
        run_sweep(spec, path, machine=machine, on_progress=reports.append)
        assert reports[-1] == (300_000, 300_000, 300_000, None, None)
        done = [report.done for report in reports]
        assert done == sorted(done)
        assert set(done) == {0, 131072, 262144, 300_000} or executor == "process"
    one, two = (
        {
            file.relative_to(path): file.read_bytes()
            for file in path.glob("blocks/**/*")
            if file.is_file()
        }
        for path in paths
    )
    assert one == two
    assert len(one) > 12
    assert_identical(*paths)


def test_processes_stop_at_the_same_precision(tmp_path):
    spec = signs_spec(num_inits=10**7, precision=0.005)
    paths = [tmp_path / "thread.zarr", tmp_path / "process.zarr"]
    for path, executor in zip(paths, ("thread", "process"), strict=True):
        run_sweep(spec, path, machine=Machine((DEVICE,), executor=executor))
    assert_identical(*paths)
