"""How many seeds are computed together: as many as suit the device and its memory.

What a run takes is estimated from numbers of nodes, edges and features, which costs nothing and is
too much rather than too little. Only where by that estimate there is no room for all seeds, or for
as many as a chunk has at most, programs of one seed and of two are compiled, without being run, and
asked what they take.

The estimate counts float32 numbers. For a seed there are, of each, so many copies (the forward
pass, the backward pass, dropout, what is measured):

    COPIES * (nodes * (features + sum of widths) + edges * sum of heads)
    + STATES * parameters + BASE

where a block of a `BlocksConfig` counts as four widths and the one that its feed-forward network is
expanded to.
"""

import jax
import numpy as np

from gat_jax.graphs import NodeTask
from gat_jax.layers import BlocksConfig, init_network, layer_configs
from gat_jax.runtime.devices import free_memory
from gat_jax.runtime.text import size_text
from gat_jax.training import seeds
from gat_jax.training.spec import Setting

# A seed of a chunk costs no more than a seed alone: on CPUs up to 8 of them; a larger chunk leaves
# the cache. An accelerator is idle with few seeds.
MOST_ON_CPU, MOST_ON_ACCELERATOR = 8, 32
BASE = 2**18  # what a small program takes beside its numbers, such as the records of a call
COPIES = 16  # of what there is for each node and each edge
STATES = 8  # of parameters: two moments, the gradient, those that are kept, and of two calls
WIDTHS_OF_A_BLOCK = 4


def chunk_size(
    setting: Setting, task: NodeTask, *, num_seeds: int, platform: str, num_sharing: int
) -> int:
    """Return how many seeds of a setting are computed together.

    Args:
      setting: of the training.
      task: its data.
      num_seeds: of the setting; chunks of one size are preferred (`even_size`).
      platform: of the device, such as "cpu".
      num_sharing: chunks at once that share the memory.

    Raises:
      ValueError: if one seed alone does not fit into the memory that is free.
    """
    most = MOST_ON_CPU if platform == "cpu" else MOST_ON_ACCELERATOR
    free = free_memory() // num_sharing
    certain = min(most, free // 2 // estimate(setting, task))
    if certain >= min(most, num_seeds):
        return even_size(num_seeds, certain)
    alone, both = (compiled(setting, task, number) for number in (1, 2))
    if alone > free:
        raise ValueError(
            f"memory: expected at least {size_text(alone)} for one seed of {setting.name}, got "
            f"{size_text(free)}; what helps: fewer heads or channels"
        )
    for_each = max(1, both - alone)
    return even_size(num_seeds, int(np.clip(1 + (free // 2 - alone) // for_each, 1, most)))


def even_size(num_seeds: int, most: int) -> int:
    """Return the size of chunks that leaves no smaller one over, if one above half of `most` does.

    A program is compiled for every size: a smaller chunk at the end can take longer, and more
    memory, than all that came before it.
    """
    sizes = range(most, most // 2, -1)
    return next((size for size in sizes if num_seeds % size == 0), most)


def estimate(setting: Setting, task: NodeTask) -> int:
    """Return the bytes that a run of a setting takes, by the formula of this module."""
    num_nodes, num_features = task.graph.nodes.shape
    num_edges = len(task.graph.senders) + (num_nodes if setting.recipe.self_loops else 0)
    configs = setting.recipe.configs(_num_classes(task))
    layers = layer_configs(configs)
    widths = sum(layer.heads * layer.channels for layer in layers)
    if isinstance(configs, BlocksConfig):
        widths *= WIDTHS_OF_A_BLOCK + configs.expansion
    heads = sum(layer.heads for layer in layers)
    params = jax.eval_shape(lambda key: init_network(key, configs, num_features), jax.random.key(0))
    numbers = sum(x.size for x in jax.tree.leaves(params))
    values = num_nodes * (num_features + widths) + num_edges * heads
    return 4 * (BASE + COPIES * values + STATES * numbers)


def compiled(setting: Setting, task: NodeTask, num_seeds: int) -> int:
    """Return the bytes that a chunk of so many seeds takes, by its compiled program."""
    data = seeds.prepare_data(task, setting.recipe)
    program = seeds.program_of(setting.recipe, _num_classes(task))
    keys, splits = seeds.keys_of(0, range(num_seeds)), np.zeros(num_seeds, np.int32)
    return seeds.memory_of(program, seeds.Chunk(data, setting.recipe.settings, keys, splits))


def _num_classes(task: NodeTask) -> int:
    assert task.labels is not None
    return int(task.labels.max()) + 1
