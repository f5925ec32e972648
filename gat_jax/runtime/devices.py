"""The machine: its devices, cores and memory, and where numbers come from."""

import configparser
import contextlib
import functools
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

UNKNOWN = "unknown"  # what provenance says where it does not know
# The folder that holds the package: the root of a checkout, or `site-packages`.
ROOT = Path(__file__).resolve().parents[2]


Devices = tuple[Any, ...]  # of jax.Device, which is no type to a type checker
# Where the system does not say how much memory it has: less than any machine of today.
ASSUMED_MEMORY = 4 * 2**30


def default_devices() -> Devices:
    """Return the devices of this process."""
    return tuple(jax.local_devices())


def num_cores() -> int:
    """Return the number of CPU cores that this process may use.

    macOS and Windows do not say which cores a process may use: there it is all of the machine's.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_cores(num_devices: int | None) -> None:
    """Make one device of each CPU core, or as many as asked for, unless JAX is in use already."""
    with contextlib.suppress(RuntimeError):  # in use: its devices are as they are
        jax.config.update("jax_num_cpu_devices", num_devices or num_cores())


def total_memory() -> int:
    """Return the bytes of memory there are for the work: the accelerators', or the host's."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] * jax.local_device_count()
    return host_memory()


def host_memory() -> int:
    """Return the bytes of the host's memory, without starting JAX's backend.

    Where the system does not tell (Windows), 4 GiB are assumed.
    """
    names = ("SC_PHYS_PAGES", "SC_PAGE_SIZE")
    if not hasattr(os, "sysconf") or not set(names) <= set(os.sysconf_names):
        return ASSUMED_MEMORY
    pages, page_size = map(os.sysconf, names)
    return pages * page_size if pages > 0 else ASSUMED_MEMORY


def free_memory() -> int:
    """Return the bytes of memory that nobody uses, of one accelerator or of the host.

    Of a host other than Linux it is all that there is: the others do not say what is free.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return host_memory()
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", text, re.MULTILINE)
    return host_memory() if found is None else 1024 * int(found[1])


def check_backend() -> None:
    """Start JAX's backend, or say in one line why it does not start.

    Raises:
      ValueError: names the platform that was asked for, such as one that this machine lacks; or
        flags that XLA does not know.
    """
    _check_flags(os.environ.get("XLA_FLAGS", ""))
    try:
        jax.local_devices()
    # JAX raises RuntimeError, for some platforms a bare AssertionError.
    except (RuntimeError, AssertionError) as error:
        wanted = getattr(jax.config, "jax_platforms", None) or "none in particular"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"JAX_PLATFORMS: expected platforms of this machine, got {wanted} ({reason})"
        ) from error


@functools.cache  # another process is needed, and XLA reads its flags only once in this one
def _check_flags(flags: str) -> None:
    """Check that XLA knows its flags: one that it does not know ends the process.

    Args:
      flags: as in the environment, which the process that tries them inherits.

    Raises:
      ValueError: says which are meant.
    """
    if not flags.strip():
        return
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import jax; jax.local_devices()"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):  # it will be seen whether it starts
        return
    told = [x for x in done.stderr.decode(errors="replace").splitlines() if "XLA_FLAGS" in x]
    if done.returncode != 0 and told:  # what else fails is told by who meets it
        unknown = [x.split("] ")[-1] for x in told if "nknown" in x]
        reason = unknown[0] if unknown else "one of their values cannot be read"
        raise ValueError(f"XLA_FLAGS: expected flags that XLA knows, got {flags} ({reason})")


# --- provenance ---------------------------------------------------------------------------------


def provenance(*more_packages: str) -> dict[str, str]:
    """Return what numbers are computed with: versions, device, platform and commit.

    Take it before the computation: it never raises, and where it does not know it says "unknown".
    Numbers that took hours must not die of a package without metadata or of a missing git.

    Args:
      more_packages: names of packages whose versions matter beside those of the main job.

    Returns:
      One line of text per key: `version_NAME` of every package and of Python, `backend` (such as
      "cpu"), `device` (see `device_name`), `devices` and `cores` (how many), `jax_platform` (for
      a GPU the version of CUDA), `platform` (the operating system), `commit` (of the checkout).
    """
    packages = ("jax", "jaxlib", "numpy", "scipy", *more_packages)
    return {
        "version_gat_jax": own_version(),
        **{f"version_{name}": package_version(name) for name in packages},
        "version_python": platform.python_version(),
        **_describe_device(),
        "cores": str(num_cores()),
        "platform": platform.platform(),
        "commit": _commit(ROOT),
    }


def package_version(name: str) -> str:
    """Return the version of an installed package, or "unknown"."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return UNKNOWN
    return version or UNKNOWN  # metadata without the field gives None


def has_triton(device: Any) -> bool:
    """Whether kernels for Triton run on a device: on GPUs of NVIDIA from Ampere on (A100)."""
    if device.platform != "gpu" or "cuda" not in device.client.platform_version.lower():
        return False
    return float(device.compute_capability) >= 8.0


def device_name() -> str:
    """Return the kind of device that JAX computes on, such as "NVIDIA H200".

    Of a CPU it is the model, for vector units differ and round differently.
    """
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return device.device_kind
    models = [x.split(":")[1].strip() for x in cpu_lines() if x.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine() or UNKNOWN


def cpu_lines() -> list[str]:
    """Return what Linux says of the CPUs, a line for each fact of each; nothing elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # only Linux has the file
        return []
    return text.splitlines()


def _describe_device() -> dict[str, str]:
    try:
        device = jax.local_devices()[0]
        return {
            "backend": jax.default_backend(),
            "device": device_name(),
            "devices": str(jax.local_device_count()),
            "jax_platform": " ".join(device.client.platform_version.split()),
        }
    except RuntimeError:  # no backend starts; the computation itself will say so, and why
        return dict.fromkeys(("backend", "device", "devices", "jax_platform"), UNKNOWN)


def _is_checkout(root: Path) -> bool:
    """Whether a folder is the root of a checkout of this package, by its `setup.cfg`."""
    return _setup_field(root, "name") == "gat_jax"


def _setup_field(root: Path, field: str) -> str | None:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(root / "setup.cfg", encoding="utf-8")  # a missing file is an empty one
        return parser.get("metadata", field, fallback=None)
    except (OSError, UnicodeDecodeError, configparser.Error):  # somebody else's, or unreadable
        return None


def own_version(root: Path = ROOT) -> str:
    """Return the version of the code that runs, or "unknown".

    A checkout speaks for itself: installed metadata may be missing there, or of another checkout.

    Args:
      root: the folder that holds the package.
    """
    if _is_checkout(root):
        return _setup_field(root, "version") or UNKNOWN
    return package_version("gat_jax")


def _commit(root: Path) -> str:
    """Return the commit of the checkout at `root`, or "unknown".

    A package that lies inside another repository, such as a virtual environment in a project's
    folder, must not be given that repository's commit: the work tree has to begin at `root`. It is
    read from git's own files, for a program may be missing, wait for a password, or hang.
    """
    if not _is_checkout(root):
        return UNKNOWN
    try:
        folder = root / ".git"
        if folder.is_file():  # one of several work trees of a repository
            folder = root / folder.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
        head = (folder / "HEAD").read_text(encoding="utf-8").strip()
        if head.startswith("ref:"):
            head = _reference(folder, head.removeprefix("ref:").strip())
    except (OSError, ValueError):  # no repository, or none that can be read
        return UNKNOWN
    return head if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", head) else UNKNOWN


def _reference(folder: Path, name: str) -> str:
    """Return what a name such as `refs/heads/main` stands for; "unknown" before the first commit.

    Raises:
      OSError: if a file cannot be read.
      ValueError: if one is no text.
    """
    shared = folder / "commondir"  # where all work trees keep their branches
    if shared.is_file():
        folder = folder / shared.read_text(encoding="utf-8").strip()
    if (folder / name).is_file():
        return (folder / name).read_text(encoding="utf-8").strip()
    packed = folder / "packed-refs"
    lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
    found = [line.split()[0] for line in lines if line.split()[1:] == [name]]
    return found[0] if found else UNKNOWN
