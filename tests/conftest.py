"""Rules of the whole suite: types and shapes are checked, nothing broadcasts by accident."""

import sys
from collections.abc import Iterator

import jax
import pytest
from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook

assert "gat_jax" not in sys.modules, "the import hook below has to come before the package"
install_import_hook("gat_jax", "beartype.beartype")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config: pytest.Config) -> None:
    # torch_geometric compiles a class with torch.jit.script as it is imported.
    config.addinivalue_line(
        "filterwarnings", "ignore:.torch.jit.script. is deprecated:DeprecationWarning"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The file that takes longest goes first, so that no process is left with it at the end.
    items.sort(key=lambda item: item.path.name != "test_reproduce.py")


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
