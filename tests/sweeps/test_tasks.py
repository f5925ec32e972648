"""A block as a task: plain data, whose record depends on it alone."""

import pickle

import jax
import numpy as np
from sweep_runs import signs_spec

from gat_jax.runtime import worker
from gat_jax.runtime.executors import Job
from gat_jax.sweeps import Machine, prepare, records, tasks
from gat_jax.sweeps.tasks import BlockTask, Share, measure_block, measure_blocks


def block_tasks(**fields) -> list[BlockTask]:
    cells = prepare(signs_spec(**fields))
    (entry,), (prepared,) = cells.entries, cells.prepared.values()
    share = Share(chunk_size=None, memory=None, num_sharing=1)
    return [BlockTask(entry, prepared, block, share) for block in range(entry.num_blocks)]


def bits_of(record) -> list[bytes]:
    values = [record.values[name] for name in sorted(record.values)]
    return [np.asarray(x).tobytes() for x in (*record.counts, *values)]


def test_a_block_alone_and_elsewhere_has_the_bits_that_it_has_in_a_stream():
    wanted = block_tasks(keep="raw")
    machine = Machine(tuple(jax.local_devices()), executor="thread")
    stream = list(measure_blocks(iter(wanted), machine))
    assert [task.block for task, _ in stream] == [0, 1, 2]
    job = Job(measure_block, tasks.describe, tasks.describe())
    for task, record in reversed(stream):
        answer = worker.Answer(*worker.unpack(worker.answer(worker.request(job, task))))
        assert answer.kind == "done"
        assert bits_of(answer.value) == bits_of(record)
        small = task._replace(share=Share(chunk_size=1, memory=2**31, num_sharing=4))
        assert bits_of(measure_block(small)) == bits_of(record)


def test_blocks_that_are_added_up_together_have_the_bits_that_each_has_alone():
    # Three blocks of two tiles and one of a single tile. Calls of 1 tile hold less than a block,
    # those of 8 all of them; from the last block on, calls of 2 and 4 end within a block.
    wanted = block_tasks(block_size=262144, num_inits=900_000)
    alone = {task.block: bits_of(measure_block(task)) for task in wanted}
    assert len(set(map(tuple, alone.values()))) == 4
    devices = tuple(jax.local_devices()[:1])
    for at_once in (1, 2, 4, 8):
        machine = Machine(devices, executor="thread", tiles_at_once=at_once)
        for tasks_of_it in (wanted, wanted[::-1], wanted[:1]):
            stream = list(measure_blocks(iter(tasks_of_it), machine))
            assert [task.block for task, _ in stream] == [task.block for task in tasks_of_it]
            assert all(bits_of(record) == alone[task.block] for task, record in stream)


def test_a_task_is_plain_data_with_a_name():
    task = block_tasks(keep="raw")[2]
    assert str(task) == f"block 2 of {task.entry.name}"
    packed = pickle.dumps(task)
    assert len(packed) < 20_000
    assert str(pickle.loads(packed)) == str(task)
    assert pickle.loads(packed).prepared.shape == task.prepared.shape


def test_a_worker_says_what_its_bits_depend_on():
    found = tasks.describe()
    assert found["jax"] == jax.__version__
    assert found["schema"] == str(records.SCHEMA)
    assert found["dtype"] == "float32"
    with jax.enable_x64(True):
        assert tasks.describe()["dtype"] == "float64"
    assert set(found) >= {"gat_jax", "jaxlib", "device", "platform", "batches_per_tile"}
    assert all(isinstance(value, str) for value in found.values())


def test_no_tasks_compile_nothing():
    assert list(measure_blocks(iter([]), Machine(executor="thread"))) == []
