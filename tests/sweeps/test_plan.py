import jax
import pytest
from sweep_runs import signs_spec

from gat_jax.sweeps import Machine, plan_sweep, prepare, run_sweep


def test_a_plan_says_what_is_stored_and_writes_nothing(tmp_path):
    machine = Machine(tuple(jax.local_devices()[:1]))
    path = tmp_path / "sweep.zarr"
    cells = prepare(signs_spec(slope=(0.2, 0.5)))
    plans = list(plan_sweep(cells, machine, path))
    assert [cell.name for cell in plans] == [
        f"tutorial.gat.h1.c2.tutorial.raw.s{slope}" for slope in (0.2, 0.5)
    ]
    assert [(cell.num_blocks, cell.num_stored) for cell in plans] == [(3, 0), (3, 0)]
    assert plans[0].program is plans[1].program
    assert all(cell.seconds > 0 and cell.memory > 0 for cell in plans)
    assert not path.exists()
    run_sweep(signs_spec(), path, machine=machine)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    plans = list(plan_sweep(cells, machine, path))
    assert [cell.num_stored for cell in plans] == [3, 0]
    assert plans[0].seconds == 0 < plans[1].seconds
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


def test_a_plan_refuses_what_the_sweep_would_refuse(tmp_path):
    run_sweep(signs_spec(num_inits=1000), tmp_path / "sweep.zarr")
    cells = prepare(signs_spec(num_inits=1000, seed=1))
    with pytest.raises(ValueError, match="seed 0 in the store, 1 asked for"):
        next(plan_sweep(cells, Machine(), tmp_path / "sweep.zarr"))
    with pytest.raises(ValueError, match="memory: expected at least"):
        next(plan_sweep(cells, Machine(memory=1000), tmp_path / "new.zarr"))
