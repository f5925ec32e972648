"""Rules of the whole suite: types and shapes are checked, nothing broadcasts by accident."""

import sys
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
        "commands/test_reproduce.py",
        "kernels/test_attention.py",
        "layers/test_layer_layouts.py",
        "layers/test_layers.py",
    )
]


def pytest_configure(config: pytest.Config) -> None:
    # torch_geometric compiles a class with torch.jit.script as it is imported.
    config.addinivalue_line(
        "filterwarnings", "ignore:.torch.jit.script. is deprecated:DeprecationWarning"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if missing := [path for path in LONGEST if not path.is_file()]:
        raise pytest.UsageError(f"LONGEST in conftest.py: expected files, got {missing}")
    rank = {path: k for k, path in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))  # stable: the others stay in order


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
