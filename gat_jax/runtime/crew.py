"""Who computes tasks: what may be asked for, and workers, checked before they work.

A task's result is to have the same bits whoever computes it. So every worker is asked what it is
(`describe`), and one whose results could differ is refused before it is given work.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxlib.version

from gat_jax.runtime import cluster, worker
from gat_jax.runtime.cluster import Cluster
from gat_jax.runtime.devices import device_name, own_version
from gat_jax.runtime.executors import Job, ShouldStop
from gat_jax.runtime.programs import flags_of_bits

# Those of a worker count where it has an accelerator and this process has none.
OF_DEVICE = ("platform", "device", "cores", "XLA_FLAGS")


class Workers(NamedTuple):
    """The workers of a cluster, ready to be given work."""

    cluster: Cluster
    description: Mapping[str, str]  # what each of them is, as `describe` has it
    num_sharing: int  # of them on one machine

    @property
    def platform(self) -> str:
        """Of what they compute on, such as "cpu"."""
        return self.description["platform"]

    @property
    def device(self) -> str:
        """The kind of device that they compute on."""
        return self.description["device"]


def describe(**more: str) -> dict[str, str]:
    """Return what the bits of a result depend on beside its task, as it is in this process.

    Args:
      **more: what the job's own bits depend on as well.
    """
    return {
        "gat_jax": own_version(),
        **more,
        "jax": jax.__version__,
        "jaxlib": jaxlib.version.__version__,
        "dtype": str(jnp.result_type(float)),  # another one under `jax_enable_x64`
        "platform": jax.default_backend(),
        "device": device_name(),
        "XLA_FLAGS": flags_of_bits(),
    }


def check_wish(
    executor: str, names: Sequence[str], default: str, scheduler: str | None, platform: str
) -> None:
    """Check that those whom a user asks for can compute.

    Args:
      executor: that is asked for.
      names: of the executors that there are.
      default: the one that stands for no wish.
      scheduler: address of a cluster's, or "local"; None: no cluster.
      platform: of this process's devices, such as "cpu".

    Raises:
      ValueError: names the field that is wrong.
    """
    if executor not in names:
        raise ValueError(f"executor: expected one of {', '.join(names)}, got {executor!r}")
    if scheduler is not None and not scheduler.strip():
        raise ValueError("scheduler: expected an address or local, got an empty text")
    if scheduler is not None and executor != default:
        raise ValueError(f"executor: expected none beside a scheduler, got {executor}")
    # An accelerator belongs to the process that has begun to use it, which is this one.
    if platform != "cpu" and executor == "process":
        raise ValueError(f"executor: expected thread on a {platform}, got process")
    if platform != "cpu" and scheduler == cluster.LOCAL:
        raise ValueError(
            f"scheduler: expected an address, its workers with one {platform} each, got local"
        )


def check_alone(field: str, value: str) -> None:
    """Check that this process is not one of several that share a store.

    Raises:
      ValueError: names the field that asks for workers beside them.
    """
    if jax.process_count() > 1:
        raise ValueError(f"{field}: expected none beside `distributed`, got {value}")


@contextlib.contextmanager
def workers_of(
    scheduler: str | None,
    num_workers: int,
    job: Job,
    should_stop: ShouldStop,
    on_message: Callable[[str], None],
    on_dashboard: Callable[[str], None],
) -> Iterator[Workers | None]:
    """Find the workers of a cluster, where there is to be one, and check what they are.

    Args:
      scheduler: its address, or "local" for a cluster that ends with the context; None: no cluster.
      num_workers: of a local cluster.
      job: of the workers; what is expected of them is what this process is.
      should_stop: whether to wait no longer for the first worker.
      on_message: told when there is none.
      on_dashboard: told the address of the cluster's dashboard.

    Yields:
      The workers; None: there is to be no cluster.

    Raises:
      ValueError: if there is no scheduler, or the results of a worker would differ from others.
      WorkersLostError: if the cluster goes away, or a local one does not start.
    """
    if scheduler is None:
        yield None
        return
    check_alone("scheduler", scheduler)
    with cluster.connected(scheduler, num_workers) as client:
        workers = Cluster(client, job, scheduler, on_message)
        if workers.dashboard is not None:
            on_dashboard(workers.dashboard)
        expected = expected_of(job.expected, workers.descriptions(should_stop))
        workers.job = job._replace(expected=expected)
        num_sharing = workers.num_workers_of_a_machine()
        yield Workers(workers, expected, num_sharing)


def expected_of(
    here: Mapping[str, str], workers: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """Return what every worker has to be, so that all results have the same bits.

    It is what this process is. Where this process has a CPU alone and the workers have accelerators
    (it runs on the front end of a cluster), their device counts instead.

    Args:
      here: what this process is, texts by name.
      workers: what each worker is, by its address.

    Raises:
      ValueError: names the first worker that is something else.
    """
    expected = dict(here)
    platforms = {found.get("platform") for found in workers.values()}
    if here["platform"] == "cpu" and workers and not platforms & {"cpu", None}:
        first = next(iter(workers.values()))
        expected |= {name: first[name] for name in OF_DEVICE if name in here and name in first}
    for address, found in workers.items():
        if (wrong := worker.mismatch(expected, found)) is not None:
            raise ValueError(f"{wrong} on {address}")
    return expected
