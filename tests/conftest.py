"""Rules of the whole suite: types and shapes are checked, nothing broadcasts by accident."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook

assert "gat_jax" not in sys.modules, "the import hook below has to come before the package"
install_import_hook("gat_jax", "beartype.beartype")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The files that take longest, the longest first. A process takes a whole file at a time: one that
# began a long file last would work on alone.
TESTS = Path(__file__).parent
LONGEST = [
    TESTS / name
    for name in (
        "bench/layer/test_command.py",  # this one and the next three are long with the slow tests
        "commands/test_sweep_executors.py",
        "commands/test_reproduce.py",
        "commands/test_ends.py",
        "kernels/test_attention.py",
        "symmetry/test_nodes.py",
        "layers/test_layer_layouts.py",
        "layers/test_layers.py",
    )
]


# Half of the time goes into compiling. By default programs are hardly optimised, which halves that,
# and fusions are written out by XLA's older emitters, which halves it again with JAX 0.10 (0.12
# takes the option and ignores it; a flag that it does not know would end the process). So are those
# of `pytest -m variants`. The other slow tests, and all that is run with XLA_FLAGS in the
# environment (an empty value will do), have the programs of users.
QUICK_FLAGS = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters"
)


# Dozens of tests run a whole command, which compiles the same programs for a minute: they share
# what was compiled, through a folder that the first process makes and removes.
CACHE = "JAX_COMPILATION_CACHE_DIR"
_made_caches: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    if CACHE not in os.environ:
        os.environ[CACHE] = tempfile.mkdtemp(prefix="gat-jax-compiled-")
        _made_caches.append(os.environ[CACHE])
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    if config.option.markexpr.startswith(("not slow", "variants")):
        os.environ.setdefault("XLA_FLAGS", QUICK_FLAGS)  # read with the first program
    # torch_geometric compiles a class with torch.jit.script as it is imported.
    config.addinivalue_line(
        "filterwarnings", "ignore:.torch.jit.script. is deprecated:DeprecationWarning"
    )


def pytest_unconfigure() -> None:
    for folder in _made_caches:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is slow
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    _make_variants_slow(items)
    if missing := [path for path in LONGEST if not path.is_file()]:
        raise pytest.UsageError(f"LONGEST in conftest.py: expected files, got {missing}")
    rank = {path: k for k, path in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))  # stable: the others stay in order


def _make_variants_slow(items: list[pytest.Item]) -> None:
    """Keep as many variants of a test as `few` says, spread evenly over all of its parameters.

    The others are slow. All of them but one of each test are `variants` too, which CI runs with
    programs that are hardly optimised.
    """
    variants: dict[tuple[Path, str, int], list[pytest.Item]] = {}
    for item in items:
        few = item.get_closest_marker("few")
        if few is not None and item.get_closest_marker("slow") is None:
            (number,) = few.args
            variants.setdefault((item.path, item.name.split("[")[0], number), []).append(item)
    for (*_, number), found in variants.items():
        kept = {int((k + 0.5) * len(found) / number) for k in range(number)}
        slow = [item for k, item in enumerate(found) if k not in kept]
        for k, item in enumerate(slow):
            item.add_marker(pytest.mark.slow)
            if k != len(slow) // 2:  # that one has the program of users
                item.add_marker(pytest.mark.variants)


@pytest.fixture
def x64() -> Iterator[None]:
    """Float64 for one test; the rest of the suite runs in float32, as users do."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def unchecked() -> Iterator[None]:
    """No checks of annotations, as for users: what they get wrong has to be refused in words."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)
