"""Where the numbers of a sweep come from: versions, device and commit."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import jax

UNKNOWN = "unknown"  # where it cannot be found out


def provenance() -> dict[str, str]:
    """Return what numbers are computed with; it never raises."""
    names = ("gat_jax", "jax", "jaxlib", "numpy", "scipy")
    return {f"version_{name}": _version(name) for name in names} | {
        "version_python": platform.python_version(),
        "device": device_name(),
        "commit": _commit(),
    }


def device_name() -> str:
    """Return the kind of device; of a CPU its model, for vector units differ and round apart."""
    device = jax.local_devices()[0]
    if device.platform == "cpu" and Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        return models[0] if models else platform.processor()
    return device.device_kind


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return UNKNOWN


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
