"""What is read from a profile: kernels on the streams of GPUs, and nothing else."""

import pytest
from bench.kernels import command, trace


def event(name, pid, tid, duration):
    return {"ph": "X", "name": name, "pid": pid, "tid": tid, "dur": duration}


def label(kind, name, pid, tid=0):
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}


EVENTS = [
    label("process_name", "/device:GPU:0", 1),
    label("process_name", "/host:CPU", 2),
    label("thread_name", "Stream #13(compute)", 1, 7),
    label("thread_name", "XLA Ops", 1, 8),
    label("thread_name", "Stream of nothing", 2, 7),
    event("add", 1, 7, 1000.0),
    event("dot", 1, 7, 3000.0),
    event("add", 1, 7, 2000.0),
    event("dot", 1, 7, 5000.0),
    event("dot", 1, 8, 99.0),
    event("python", 2, 7, 99.0),
    {"name": "without a phase"},
]


def test_kernels_are_those_on_streams_of_gpus_longest_first():
    assert trace.read_events(EVENTS, calls=2) == [("dot", 4.0, 1.0), ("add", 1.5, 1.0)]


def test_the_benchmark_refuses_a_machine_without_a_gpu(capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        command.main(["--json", str(tmp_path / "kernels.json")])
    assert stop.value.code == 2
    assert capsys.readouterr().err.strip() == (
        "error: device: expected a GPU, whose kernels the profiler sees, got a CPU"
    )
