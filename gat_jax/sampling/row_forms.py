"""Two ways to spell out the rows of twins, behind one protocol.

*Unrolled*: a quantity of the nodes is a list with an array for each node, an index is an integer,
and every receiver is handled by itself. XLA fuses the whole measurement into a few loops over the
batch; for small supports.

*Gathered*: nodes are the first axis of an array, an index is a vector of node ids, and all
receivers of one degree are handled together; for everything else.

Both spell out every place of a support. Compiling takes more than the square of their number, so
the supports of many senders are not theirs: `wide_rows` has a third form for these.

The formulas (`twin_rows`, `pair_facts`) are written once, on the arrays that `pick` returns: [B] of
one node, or [K, B] of K nodes. B is the batch axis: every head of every initialisation.
"""

import functools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gat_jax.sampling.twin_layout import TwinLayout

# A quantity of every node (or of every twin): a list of [B] when unrolled, or [N, B].
ByNode = Array | list[Array]
# Of one node when unrolled, of several when gathered.
Index = int | np.ndarray


class Spelled:
    """An array whose last axis is the batch, as an entry for each place of its other axes."""

    def __init__(self, entries: np.ndarray, batch: int):
        """Take the entries, an array of objects, each an array [B]."""
        self._entries = entries
        self.shape = (*entries.shape, batch)

    def __len__(self) -> int:
        """Return the length of the first axis."""
        return len(self._entries)

    def __getitem__(self, index: Any) -> Any:
        """Return one entry, or entries of which some axes are left."""
        return self._entries[index]


class Group(NamedTuple):
    """Receivers that are handled together: one, or all of one degree d."""

    receivers: Index
    senders: Sequence[Index]  # d entries: the sender at each place of the support
    gcn_weights: Sequence[Any]  # d entries: 1 / sqrt(d_i d_j), numbers or arrays [K, 1]


@runtime_checkable  # for tests, which check annotations as they run
class Places(Protocol):
    """What the formula of a row needs to know of the places of its support.

    Quantities of the places are a list: an entry for each of them, or one entry for all, with an
    axis of places of its own.
    """

    @property
    def degree(self) -> int | Array:
        """Number of places."""
        ...

    def channels(self, weights: Float[Array, "1 channels batch"] | Spelled) -> list[Array]:
        """Return weights, a list over channels, that multiply quantities of the row."""
        ...

    def largest(self, values: Sequence[Array]) -> Array:
        """Return the largest of a quantity of the places."""
        ...

    def smallest(self, values: Sequence[Array]) -> Array:
        """Return the smallest of a quantity of the places."""
        ...

    def total(self, values: Sequence[Array]) -> Array:
        """Return the sum of a quantity of the places."""
        ...


@runtime_checkable
class RowForm(Protocol):
    """What the formulas need to know of how nodes lie in a program."""

    def groups(self, layout: TwinLayout, max_degree: int) -> list[Group]:
        """Return the receivers of at most that degree, in their order, with their supports."""
        ...

    def pairs(self, layout: TwinLayout) -> list[tuple[Index, Index]]:
        """Return the pairs, in the order of `layout.pairs`, as positions among the receivers."""
        ...

    def project(
        self,
        kernel: Float[Array, "features 1 channels batch"] | Spelled,
        bias: Float[Array, "1 channels batch"] | Spelled | None,
        nodes: Float[Array, "nodes features batch_or_1"] | Spelled,
    ) -> list[ByNode]:
        """Return x W + b of every node, a list over channels."""
        ...

    def channels(self, weights: Float[Array, "1 channels batch"] | Spelled) -> list[Array]:
        """Return weights, a list over channels, that multiply what `pick` returns."""
        ...

    def dot(
        self, values: list[ByNode], weights: Float[Array, "1 channels batch"] | Spelled
    ) -> ByNode:
        """Return sum_c w_c z_c of every node, for a list z over channels."""
        ...

    def pick(self, by_node: ByNode, index: Index | Array) -> Array:
        """Return the entries of one node, [B], or of several, [K, B]."""
        ...

    def nearest(self, values: Array) -> Array:
        """Return the nearest whole numbers, halves to even ones."""
        ...

    def join_groups(self, parts: Sequence[Array]) -> ByNode:
        """Join arrays, one for each group, to a quantity of every receiver."""
        ...

    def join_pairs(self, parts: Sequence[Array]) -> Array:
        """Join arrays, one for each entry of `pairs`, to [P, B]."""
        ...


class Unrolled:
    """Every node and every receiver by itself."""

    def groups(self, layout: TwinLayout, max_degree: int) -> list[Group]:
        """Return one group for each receiver."""
        return [
            Group(int(i), layout.support(k).tolist(), layout.gcn_weights_of(k).tolist())
            for k, i in enumerate(layout.receivers)
            if layout.degrees[k] <= max_degree
        ]

    def pairs(self, layout: TwinLayout) -> list[tuple[Index, Index]]:
        """Return every pair by itself."""
        return [(int(i), int(k)) for i, k in layout.pairs]

    def project(
        self,
        kernel: Float[Array, "features 1 channels batch"] | Spelled,
        bias: Float[Array, "1 channels batch"] | Spelled | None,
        nodes: Float[Array, "nodes features batch_or_1"] | Spelled,
    ) -> list[ByNode]:
        """Return x W + b, a list over channels of lists over nodes."""
        num_features, _, channels, _ = kernel.shape
        projected: list[ByNode] = []
        for c in range(channels):
            weights = [kernel[f, 0, c] for f in range(num_features)]
            by_node = [weighted_sum(list(nodes[n]), weights) for n in range(len(nodes))]
            projected.append(by_node if bias is None else [z + bias[0, c] for z in by_node])
        return projected

    def channels(self, weights: Float[Array, "1 channels batch"] | Spelled) -> list[Array]:
        """Return [B] for each channel."""
        return [weights[0, c] for c in range(weights.shape[1])]

    def dot(
        self, values: list[ByNode], weights: Float[Array, "1 channels batch"] | Spelled
    ) -> ByNode:
        """Return a list over nodes."""
        by_channel = self.channels(weights)
        return [weighted_sum(by_channel, node) for node in zip(*values, strict=True)]

    def pick(self, by_node: ByNode, index: Index | Array) -> Array:
        """Return the entry of one node."""
        return by_node[operator.index(index)]

    def nearest(self, values: Array) -> Array:
        """Return the nearest whole numbers, halves to even ones."""
        return jnp.round(values)

    def join_groups(self, parts: Sequence[Array]) -> ByNode:
        """Return a list over receivers."""
        return list(parts)

    def join_pairs(self, parts: Sequence[Array]) -> Array:
        """Stack pairs."""
        return jnp.stack(parts)


class Gathered:
    """All nodes in one array, all receivers of one degree together."""

    def groups(self, layout: TwinLayout, max_degree: int) -> list[Group]:
        """Return one group for each degree; the receivers are sorted by it."""
        groups = []
        for degree in np.unique(layout.degrees[layout.degrees <= max_degree]):
            members = np.flatnonzero(layout.degrees == degree)
            places = layout.starts[layout.classes[members]] + np.arange(degree)[:, None]
            senders = layout.senders[places]
            weights = layout.gcn_weights[places].astype(np.float32)
            receivers = layout.receivers[members]
            groups.append(Group(receivers, list(senders), list(weights[..., None])))
        return groups

    def pairs(self, layout: TwinLayout) -> list[tuple[Index, Index]]:
        """Return all pairs at once."""
        return [(layout.pairs[:, 0], layout.pairs[:, 1])]

    def project(
        self,
        kernel: Float[Array, "features 1 channels batch"] | Spelled,
        bias: Float[Array, "1 channels batch"] | Spelled | None,
        nodes: Float[Array, "nodes features batch_or_1"] | Spelled,
    ) -> list[ByNode]:
        """Return x W + b, a list over channels of [N, B]."""
        num_features, _, channels, _ = kernel.shape
        projected: list[ByNode] = []
        if nodes.shape[-1] == 1:  # the same features for all: one matrix product
            z_ncb = jnp.einsum(
                "nf,fcb->ncb", nodes[..., 0], kernel[:, 0], precision=jax.lax.Precision.HIGHEST
            )
            projected += [z_ncb[:, c] for c in range(channels)]
        else:
            columns = [nodes[:, f] for f in range(num_features)]
            for c in range(channels):
                weights = [kernel[f, 0, c][None] for f in range(num_features)]
                projected.append(weighted_sum(weights, columns))
        if bias is None:
            return projected
        return [jnp.asarray(z) + bias[:, c] for c, z in enumerate(projected)]

    def channels(self, weights: Float[Array, "1 channels batch"] | Spelled) -> list[Array]:
        """Return [1, B] for each channel."""
        return [weights[:, c] for c in range(weights.shape[1])]

    def dot(
        self, values: list[ByNode], weights: Float[Array, "1 channels batch"] | Spelled
    ) -> ByNode:
        """Return [N, B]."""
        return weighted_sum(self.channels(weights), [jnp.asarray(z) for z in values])

    def pick(self, by_node: ByNode, index: Index | Array) -> Array:
        """Return the rows of a vector of nodes."""
        return jnp.asarray(by_node).at[index].get(mode="promise_in_bounds")

    def nearest(self, values: Array) -> Array:
        """Return the nearest whole numbers, halves to even ones."""
        return jnp.round(values)

    def join_groups(self, parts: Sequence[Array]) -> ByNode:
        """Return [R, B]."""
        return jnp.concatenate(parts)

    def join_pairs(self, parts: Sequence[Array]) -> Array:
        """Return the only part."""
        return jnp.concatenate(parts)


def choose_form(layout: TwinLayout, num_features: int, channels: int) -> RowForm:
    """Return the form that suits a layout: unrolled where the program stays small."""
    return Unrolled() if layout.is_unrolled(num_features, channels) else Gathered()


def weighted_sum(weights: Sequence, values: Sequence) -> Array:
    """Return sum_k w_k v_k, from the first to the last; the factors are arrays or numbers."""
    products = [w * v for w, v in zip(weights, values, strict=True)]
    return functools.reduce(operator.add, products)


class EachPlace:
    """Places of a support that are spelled out: lists have an entry for each."""

    def __init__(self, form: RowForm, degree: int):
        """Take the form of the program, and the number of places."""
        self.degree = degree
        self._form = form

    def channels(self, weights: Float[Array, "1 channels batch"] | Spelled) -> list[Array]:
        """Return weights as the form has them."""
        return self._form.channels(weights)

    def largest(self, values: Sequence[Array]) -> Array:
        """Return the largest, place by place."""
        return functools.reduce(jnp.maximum, values)

    def smallest(self, values: Sequence[Array]) -> Array:
        """Return the smallest, place by place."""
        return functools.reduce(jnp.minimum, values)

    def total(self, values: Sequence[Array]) -> Array:
        """Return the sum from the first to the last."""
        return functools.reduce(operator.add, values)
