"""Is a model of torch random in evaluation? It is run once more, and what it computed compared.

`F.dropout(x)` draws in evaluation too, as its flag is on by default; so do layers that sample. What
is said of one run of such a model holds for that run. A model that cannot be run twice, as one that
reads an iterator to its end, is diagnosed all the same.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from gat_jax.diagnosis.models.pyg_layers import array_of

# Of the largest number: what sums in another order make, as on a GPU.
ROUNDING = 1e-5
DIFFERS = (
    "The model computed different numbers when it ran again: it is random, or it keeps something "
    "from call to call. This diagnosis is of the first run. F.dropout(x) is random in evaluation "
    "mode too, where it is not told training=self.training."
)
NOT_KNOWN = (
    "The model could not be run twice, so whether it is random is not known: the second run raised "
    "{error}."
)


def copied(value: Any) -> Any:
    """Return what a model is called with, its tensors copied: a model may change them in place."""
    import torch
    from torch_geometric.data import Data

    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, Data):
        return value.clone()
    if isinstance(value, dict):
        return {key: copied(entry) for key, entry in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a named tuple
        return type(value)(*(copied(entry) for entry in value))
    if type(value) in (tuple, list):
        return type(value)(copied(entry) for entry in value)
    return value


class Buffers:
    """The buffers of a model as they are now, such as running means and counters of calls.

    Of sparse ones the numbers are not kept: PyTorch does not compare them, and nobody counts there.
    """

    def __init__(self, model: Any):
        import torch

        self._kept = [
            (module, name, buffer, buffer.detach().clone() if is_dense else None)
            for module in model.modules()
            for name, buffer in module.named_buffers(recurse=False)
            for is_dense in [buffer.layout is torch.strided]
        ]

    def restore(self) -> None:
        """Put them back where the model has changed them, in place or by other tensors."""
        import torch

        with torch.no_grad():
            for module, name, buffer, numbers in self._kept:
                # Not touched without need, as a backward pass of the user's may wait for it.
                if numbers is not None and not torch.equal(buffer, numbers):
                    buffer.copy_(numbers)
                setattr(module, name, buffer)


def numbers_of(value: Any) -> list[np.ndarray]:
    """Return copies of the tensors in what a model returned, in their order."""
    import torch

    if isinstance(value, torch.Tensor):
        return [array_of("outputs", value)]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return []
    return [array for entry in value for array in numbers_of(entry)]


def note_on(
    seen: Sequence[np.ndarray], rerun: Callable[[], Any], modules: Iterable[Any]
) -> str | None:
    """Run a model for the second time; return what is to be said of it, None for nothing.

    Args:
      seen: the outputs of some of its modules in the first run, and then its own.
      rerun: runs it again, on copies of the same inputs.
      modules: those whose outputs are in `seen`.
    """
    try:
        again = _numbers_of_run(rerun, modules)
    except Exception as error:  # of any kind: the first run went through, and is what is diagnosed
        return NOT_KNOWN.format(error=type(error).__name__)
    return None if are_same(seen, again) else DIFFERS


def _numbers_of_run(run: Callable[[], Any], modules: Iterable[Any]) -> list[np.ndarray]:
    """Run a model, and return the outputs of some of its modules, and then its own."""
    found: list[np.ndarray] = []

    def record(_: Any, __: Any, output: Any) -> None:
        found.extend(numbers_of(output)[:1])  # attention may come after

    handles = [module.register_forward_hook(record) for module in modules]
    try:
        result = run()
    finally:
        for handle in handles:
            handle.remove()
    return found + numbers_of(result)


def are_same(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> bool:
    """Whether two runs computed the same numbers; fractions, to the rounding of float32."""
    return len(first) == len(second) and all(
        a.shape == b.shape and _is_close(a, b) for a, b in zip(first, second, strict=True)
    )


def _is_close(first: np.ndarray, second: np.ndarray) -> bool:
    if np.array_equal(first, second, equal_nan=True):
        return True
    if not np.issubdtype(first.dtype, np.inexact):  # whole numbers and truth values
        return False
    size = np.max(np.abs(first), initial=0.0, where=np.isfinite(first))
    return np.allclose(first, second, rtol=0.0, atol=ROUNDING * size, equal_nan=True)
