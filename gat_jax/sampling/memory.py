"""How much memory a cell takes, before its program is there to be asked.

It is taken to list twins, to compile, and to compute many tiles at once.

A program names every place of a support, and XLA fuses the softmax over them into each of its
consumers: compiling takes memory (and time) that grows with more than the square of the number of
neighbours that twins share. For hundreds of them it is gigabytes, where running takes megabytes.
"""

import numpy as np

from gat_jax.runtime.devices import total_memory
from gat_jax.sampling.cells import NUMBERS_PER_BATCH, Shape

# Python's lists of pairs, and some arrays with an entry for each pair.
BYTES_PER_PAIR = 1000
# Measured on a CPU with XLA of jaxlib 0.10.2, for K(2, m): bytes = c d^2.6 for twins of degree d.
GROWTH = 2.6
BYTES_GAT, BYTES_GCN, BYTES_GATV2, BYTES_SIGNS = 8.5e3, 5.0e3, 8.8e3, 1.6e3
# One operation of a program, of those that grow with heads, channels and features alone.
BYTES_PER_OPERATION = 20e3


# Tiles that an accelerator computes at once, a batch of each at a time: a GPU reaches its full
# speed at two million small initialisations. A CPU computes one: a batch is made for its cache.
MAX_TILES_AT_ONCE = 128
BYTES_PER_BATCH = 32 * NUMBERS_PER_BATCH  # eight arrays of all its numbers


def tiles_at_once(platform: str, memory: int) -> int:
    """Return how many tiles suit a device at once, a power of two.

    It changes no result: every batch is drawn and counted for itself.

    Args:
      platform: of the device, such as "cpu" or "gpu".
      memory: bytes for one device.
    """
    if platform == "cpu":
        return 1
    return min(MAX_TILES_AT_ONCE, 2 ** max(0, (memory // BYTES_PER_BATCH).bit_length() - 1))


def memory_limit(memory: int | None) -> int:
    """Return the bytes that may be taken: those asked for, or else a quarter of what there is."""
    return total_memory() // 4 if memory is None else memory


def compile_memory(shape: Shape) -> int:
    """Estimate the bytes that compiling takes beyond what the smallest program takes.

    Args:
      shape: of the cell.
    """
    layer, layout = shape.layer, shape.layout
    operations = 20.0 * layer.heads
    if layout.is_unrolled(shape.num_features, layer.channels):
        # Of everything else it has been made sure that it is small.
        return int(BYTES_PER_OPERATION * operations)
    degrees = np.unique([len(support) for support in layout.supports]).astype(np.float64)
    channels = float(layer.channels)
    by_layer = {"gatv2": BYTES_GATV2 * channels**1.6, "gcn": BYTES_GCN * (1 + channels / 40)}
    factor = by_layer.get(layer.layer, BYTES_GAT * (1 + channels / 40))
    if shape.only_signs:
        factor = BYTES_SIGNS * (channels if layer.layer == "gatv2" else 1.0)
    drawn = shape.num_features if shape.drawn_features is not None else 0
    operations += channels * (10.0 + drawn + 4.0 * degrees.sum())
    return int(factor * (degrees**GROWTH).sum() + BYTES_PER_OPERATION * operations)


def check_memory(shape: Shape, memory: int | None) -> None:
    """Check, before anything is compiled, that compiling stays within a budget.

    Args:
      shape: of the cell.
      memory: bytes; None: as `memory_limit` says.

    Raises:
      ValueError: names the number of bytes, and what would help.
    """
    needed, limit = compile_memory(shape), memory_limit(memory)
    if needed > limit:
        layer = shape.layer
        degree = max(map(len, shape.layout.supports))
        advice = "more memory, fewer channels or heads, or twins with fewer neighbours"
        if not shape.only_signs:
            advice = f"to measure collisions alone, {advice}"
        raise ValueError(
            f"memory: expected at least {_size(needed)} to compile {layer.layer} with "
            f"{layer.heads} heads and {layer.channels} channels for twins of {degree} neighbours, "
            f"got {_size(limit)}; what helps: {advice}"
        )


def check_pairs(num_pairs: int, memory: int | None, graph: str) -> None:
    """Check, before pairs of twins are listed, that the list stays within a budget.

    Args:
      num_pairs: how many there are.
      memory: bytes; None: as `memory_limit` says.
      graph: its name, for the message.

    Raises:
      ValueError: names the number of bytes, and what would help.
    """
    needed, limit = num_pairs * BYTES_PER_PAIR, memory_limit(memory)
    if needed > limit:
        raise ValueError(
            f"memory: expected at least {_size(needed)} for {num_pairs} pairs of twins in {graph}, "
            f"got {_size(limit)}; what helps: more memory, or a graph with smaller classes of twins"
        )


def _size(num_bytes: int) -> str:
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if num_bytes >= 1024**power:
            return f"{num_bytes / 1024**power:.1f} {unit}"
    return f"{num_bytes} bytes"
