"""What a store holds of a block: numbers with names, and a number for the whole schema.

A record is one row of float64 numbers, so that it is one chunk of the store, whole or absent. Which
numbers are which count stands in the attributes of the array of records, as a list of fields.

What is counted is decided in `sampling.counts`; what users see of it in `summary`. Whoever changes
what a record holds changes `SCHEMA` too, and whoever changes how a tile is computed, for then a
logit next to 0 may round to the other side: stores of another number are refused.
"""

import functools

import numpy as np
from jaxtyping import Float

from gat_jax.runtime import rows
from gat_jax.runtime.blocks import RECORD, Blocks, DamagedBlockError, Form
from gat_jax.runtime.rows import Field
from gat_jax.runtime.stats import mean_share_interval
from gat_jax.sampling import COUNT_FIELDS, Counts, InitValues, dim_sizes
from gat_jax.sweeps.grid import Entry

SCHEMA = 4

# What `keep="raw"` stores of every initialisation.
INIT_VALUES = dict.fromkeys(InitValues._fields, np.float32) | {"collided_pairs": np.int64}


@functools.lru_cache  # asked for with every block
def fields_of(num_heads: int) -> tuple[Field, ...]:
    """Return the fields of the records of cells with so many heads, in the order they stand in."""
    sizes = dim_sizes(num_heads)
    return rows.fields_of(
        (name, tuple(sizes[dim] for dim in dims), dtype)
        for name, (dims, dtype) in COUNT_FIELDS.items()
    )


@functools.lru_cache
def _form_of(num_heads: int) -> Form:
    """Return the form of the arrays of such records."""
    fields = fields_of(num_heads)
    return Form(fields[-1].stop, np.float64, rows.describe(fields))


def to_record(counts: Counts, fields: tuple[Field, ...]) -> Float[np.ndarray, " length"]:
    """Put counts in a row, each at the place of its field."""
    return rows.to_row(counts._asdict(), fields)


def from_record(record: Float[np.ndarray, " length"], fields: tuple[Field, ...]) -> Counts:
    """Undo `to_record`."""
    return Counts(**rows.from_row(record, fields))


# --- blocks of a cell ---------------------------------------------------------------------------


def write_block(
    blocks: Blocks, entry: Entry, block: int, counts: Counts, values: dict[str, np.ndarray]
) -> None:
    """Store a block of a cell.

    Args:
      blocks: of the store.
      entry: the cell.
      block: its number.
      counts: of the initialisations of the block.
      values: kept values of every initialisation, by name, as long as a full block.
    """
    record = to_record(counts, fields_of(entry.num_heads))
    blocks.write(entry.key, block, record, _form_of(entry.num_heads).attributes, values)


def read_block(blocks: Blocks, entry: Entry, block: int) -> Counts:
    """Return the counts of a block that is there.

    Raises:
      DamagedBlockError: names the file that cannot be read.
      ValueError: if the store's records have other fields.
    """
    record = blocks.read(entry.key, RECORD, block, _form_of(entry.num_heads))
    return from_record(record, fields_of(entry.num_heads))


def read_values(blocks: Blocks, entry: Entry, block: int) -> dict[str, np.ndarray]:
    """Return the kept values of every initialisation of a block that is there, by name.

    Raises:
      DamagedBlockError: names the file that cannot be read, or is missing.
    """
    return {
        name: blocks.read(entry.key, name, block, Form(entry.block_size, dtype))
        for name, dtype in INIT_VALUES.items()
    }


def read_blocks(blocks: Blocks, entry: Entry) -> tuple[dict[int, Counts], list[str]]:
    """Return the sound and full blocks of a cell by their numbers, and messages on damaged ones.

    Raises:
      ValueError: if the store's records have other fields.
    """
    found, messages = {}, []
    for block in blocks.present(entry.key):
        if block >= entry.num_blocks:
            continue
        try:
            counts = read_block(blocks, entry, block)
            if entry.is_kept:
                read_values(blocks, entry, block)
        except DamagedBlockError as error:
            messages.append(str(error))
            continue
        # The last block of a smaller sweep lacks initialisations of this one.
        if counts.num_inits == entry.inits_of(block):
            found[block] = counts
    return found, messages


class Prefix:
    """The blocks of a cell that are there, from the first on without a gap, and their sum.

    The sum is taken in the order of the blocks, so it is the same to the last bit in whatever
    order they come.
    """

    def __init__(self, entry: Entry):
        """Start with no block."""
        self._entry = entry
        self._waiting: dict[int, Counts] = {}
        self._length = 0
        self.is_done = False  # all blocks are there, or as many as the precision needs
        fields = fields_of(entry.num_heads)
        self.counts = from_record(np.zeros(fields[-1].stop), fields)  # of all blocks so far

    def add(self, block: int, counts: Counts) -> None:
        """Take a block in, in any order."""
        self._waiting[block] = counts
        while not self.is_done and self._length in self._waiting:
            added = self._waiting.pop(self._length)
            self.counts = Counts(
                *(np.asarray(x + y) for x, y in zip(self.counts, added, strict=True))
            )
            self._length += 1
            self.is_done = self._length == self._entry.num_blocks
            if self._entry.precision is not None and not self.is_done:
                low, high = collision_interval(self.counts, self._entry)
                self.is_done = high - low <= self._entry.precision

    def look_for_more(self, blocks: Blocks) -> None:
        """Take in what others have stored since, as far as the next gap."""
        while not self.is_done and self._length in blocks.present(self._entry.key):
            try:
                self.add(self._length, read_block(blocks, self._entry, self._length))
            except DamagedBlockError:  # the process it belongs to computes it again
                return


def collision_interval(counts: Counts, entry: Entry) -> tuple[float, float]:
    """Return the 95% interval of the collision probability of a cell."""
    return mean_share_interval(
        counts.collisions, counts.squared_shares, counts.num_inits, entry.num_pairs
    )
