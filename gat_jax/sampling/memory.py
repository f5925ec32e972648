"""How much memory a cell takes, before its program is there to be asked.

It is taken to compile, and to compute many tiles at once.

A program names every place of a small support, and XLA fuses the softmax over them into each of its
consumers: compiling takes memory (and time) that grows with more than the square of the number of
neighbours that twins share. Beyond tens of neighbours `wide_rows` has a form that does not grow.
"""

import numpy as np

from gat_jax.runtime.devices import total_memory
from gat_jax.runtime.text import size_text
from gat_jax.sampling.cells import NUMBERS_PER_BATCH, Shape
from gat_jax.sampling.wide_rows import max_spelled_degree, spelled_bytes, wide_groups

# One operation of a program, of those that grow with heads, channels and features alone.
BYTES_PER_OPERATION = 20e3
# Measured as those of `wide_rows`: what a group of wide rows takes, and counting by class.
BYTES_WIDE, BYTES_BY_CLASS = 20e6, 70e6


# Tiles that an accelerator computes at once, a batch of each at a time: a GPU reaches its full
# speed at millions of small initialisations. A CPU computes one: a batch is made for its cache.
MAX_TILES_AT_ONCE = 512
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
    max_degree = max_spelled_degree(layout, layer, only_signs=shape.only_signs)
    degrees = np.unique(layout.degrees[layout.degrees <= max_degree])
    spelled = spelled_bytes(degrees, layer, only_signs=shape.only_signs).sum()
    num_wide = len(wide_groups(layout, max_degree))
    drawn = shape.num_features if shape.drawn_features is not None else 0
    channels = float(layer.channels)
    operations += channels * (10.0 + drawn + 4.0 * degrees.sum() + 100.0 * num_wide)
    fixed = BYTES_WIDE * num_wide + BYTES_BY_CLASS * layout.is_by_class
    return int(spelled + fixed + BYTES_PER_OPERATION * operations)


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
        degree = shape.layout.degrees.max()
        advice = "more memory, fewer channels or heads, or twins with fewer neighbours"
        if not shape.only_signs:
            advice = f"to measure collisions alone, {advice}"
        raise ValueError(
            f"memory: expected at least {size_text(needed)} to compile {layer.layer} with "
            f"{layer.heads} heads and {layer.channels} channels for twins of {degree} neighbours, "
            f"got {size_text(limit)}; what helps: {advice}"
        )
