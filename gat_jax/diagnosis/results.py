"""What a diagnosis consists of: `analysis` and `explain` find it, `wording` puts it in words.

Classes of nodes are arrays [N] with the smallest id of each class, as everywhere in the package.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jraph
import numpy as np
from jaxtyping import Bool, Float, Int

from gat_jax.graphs import TwinClasses, TwinCounts, count_twins
from gat_jax.symmetry import CAUSES

Status = Literal["pass", "warn", "fail"]


class Pairs(NamedTuple):
    """Pairs of nodes that would be equal if their attention rows were, of classes small enough."""

    first: Int[np.ndarray, " pairs"]
    second: Int[np.ndarray, " pairs"]
    is_equal: Bool[np.ndarray, " pairs"]  # in all heads, and by the residual path
    causes: Bool[np.ndarray, "pairs heads causes"]  # the set of causes, in the order of `CAUSES`
    # Largest difference of the outputs, in units of the spread of all outputs of the layer.
    gap: Float[np.ndarray, " pairs"]

    def primary(self) -> list[list[str]]:
        """Return the first cause of every pair and head, by name."""
        return [[CAUSES[k] for k in row] for row in np.argmax(self.causes, axis=-1)]


class HeadFacts(NamedTuple):
    """What is known of each head, [H] or [H, ...]."""

    entropy: Float[np.ndarray, " heads"]  # mean normalised entropy; NaN where no row has two edges
    entropy_quantiles: Float[np.ndarray, "heads 5"]  # minimum, 5%, median, 95%, maximum
    # Shares of the receivers with two senders or more: rows of one sign, and rows on one sender.
    positive: Float[np.ndarray, " heads"]
    negative: Float[np.ndarray, " heads"]
    saturated: Float[np.ndarray, " heads"]  # of receivers whose attention is above 0.999 somewhere
    is_dead: Bool[np.ndarray, " heads"]  # whether all outputs of the head are equal numbers
    same_as: Int[np.ndarray, " heads"]  # first head with the same attention; itself if none
    # Receivers with two senders or more by their normalised entropy: bins of equal width, 0 to 1.
    entropy_counts: Int[np.ndarray, "heads bins"]


class RegimeRows(NamedTuple):
    """Some rows of attention as a page draws them, in panels: heads, or channels of GATv2's heads.

    A logit is the receiver's part plus the sender's, so that a row lies between the receiver's part
    plus the lowest and plus the highest part of its senders.
    """

    panels: tuple[str, ...]  # names of those that are drawn
    num_panels: int  # that there are
    nodes: Int[np.ndarray, " rows"]  # receivers, each with two senders that differ
    num_nodes: int  # such receivers that there are
    is_equal: Bool[np.ndarray, " rows"]  # whether the layer gives another node the same output
    # Whether another node would be equal if attention were: twins, and nodes with merged senders.
    is_candidate: Bool[np.ndarray, " rows"]
    receiver_parts: Float[np.ndarray, "rows panels"]
    lowest: Float[np.ndarray, "rows panels"]  # of the parts of the row's senders, edges included
    highest: Float[np.ndarray, "rows panels"]


class FreshChance(NamedTuple):
    """How likely a pair of twins is equal in all heads of such a layer, freshly initialised."""

    probability: float  # mean over pairs
    interval: tuple[float, float]  # 95%
    method: str  # in words


@dataclasses.dataclass(frozen=True)
class LayerDiagnosis:
    """One call of one layer."""

    name: str
    system: str
    kind: str  # "gat", "gatv2" or "gcn"
    heads: int
    num_edges: int  # as attention runs over them
    twins: Int[np.ndarray, " nodes"]  # by equal supports in this layer's edges
    is_trivial: Bool[np.ndarray, " nodes"]  # supports of one distinct sender, or of none
    inputs: Int[np.ndarray, " nodes"]  # by equal inputs to this layer
    # By what no parameters of this layer can separate: equal inputs and supports, trivial supports.
    inseparable: Int[np.ndarray, " nodes"]
    candidates: Int[np.ndarray, " nodes"]  # equal as soon as their attention rows are
    outputs: Int[np.ndarray, " nodes"]  # by equal outputs, with these parameters
    pairs: Pairs
    # Numbers of pairs of candidates, non-trivial ones, by the primary cause of each head.
    cause_counts: dict[str, Int[np.ndarray, " heads"]]
    head_facts: HeadFacts
    effective_rank: float
    distance_to_mean: float  # of the outputs, in units of their norm: 0 is over-smoothed
    # Pairs of nodes that differ, but by less than 1e-5 of the spread: node ids and their gaps.
    near_misses: tuple[tuple[int, int, float], ...]
    num_near_misses: int
    fresh: FreshChance | None  # None where there are no twins, or it was not asked for
    note: str = ""  # what the user should know, such as outputs that ours do not reproduce
    regimes: RegimeRows | None = None  # None where there is no attention

    def twin_counts(self) -> TwinCounts:
        """Count the twins of this layer's edges, the trivial ones apart."""
        return count_twins(TwinClasses(self.twins, self.is_trivial, self.twins))

    def merged_classes(self) -> list[list[int]]:
        """Return the classes of equal outputs that other parameters of this layer could split."""
        return [
            members
            for members in classes_of(self.outputs)
            if len(set(self.inseparable[members].tolist())) > 1
        ]


class Merged(NamedTuple):
    """The nodes that come out equal to another of another colour: the model could separate them."""

    nodes: Int[np.ndarray, " merged"]
    partners: Int[np.ndarray, " merged"]  # one that each is equal to in the end
    # The last layer that made each pair equal; -1 where what lies between layers did.
    layers: Int[np.ndarray, " merged"]
    reasons: tuple[str, ...]  # of `explain.REASONS`


@dataclasses.dataclass(frozen=True)
class Check:
    """One named question with its answer."""

    name: str
    status: Status
    text: str  # one sentence


@dataclasses.dataclass(frozen=True)
class RemedyReport:
    """What a change would do; made by `remedies`."""

    name: str  # as `remedy` takes it
    title: str
    separated: float | None  # predicted share of the merged pairs that are separated at the start
    interval: tuple[float, float] | None  # 95%
    cost: str  # in words, with numbers
    # How `separated` is known, exact or predicted, and after it how often `tried` was tried.
    evidence: str
    tried: dict[str, Any] | None = None  # what short runs found
    layer: str = ""  # that is changed, as `remedy` takes it


@dataclasses.dataclass(frozen=True)
class Findings:
    """Why the nodes of a model come out equal; `diagnose.Diagnosis` adds ways to read it."""

    graph: jraph.GraphsTuple  # the user's own
    node_names: tuple[str, ...] | None  # None: nodes are called by their ids
    layers: tuple[LayerDiagnosis, ...]
    # By colour after refinement from the features over incoming edges: no message passing separates
    # such nodes.
    colours: Int[np.ndarray, " nodes"]
    twins_without_loops: Int[np.ndarray, " nodes"]
    twins_with_loops: Int[np.ndarray, " nodes"]
    final: Int[np.ndarray, " nodes"]  # by equal outputs of the model
    merged: Merged
    labels: Int[np.ndarray, " nodes"] | None
    loss_floor: float | None  # nats; of what this model merges
    unavoidable_loss_floor: float | None  # nats; of what cannot be separated
    checks: tuple[Check, ...]
    remedies: tuple[RemedyReport, ...]
    answer: str
    notes: tuple[str, ...]
    before: "Findings | None" = None  # of an earlier checkpoint: what training moved

    def name_of(self, node: int) -> int | str:
        """Return what the user calls a node."""
        return int(node) if self.node_names is None else self.node_names[node]


def classes_of(smallest: Int[np.ndarray, " nodes"]) -> list[list[int]]:
    """List the members of every class of at least two nodes, in the order of their smallest."""
    sizes = np.bincount(smallest, minlength=len(smallest))
    nodes = np.flatnonzero(sizes[smallest] >= 2)
    nodes = nodes[np.argsort(smallest[nodes], kind="stable")]
    ends = np.cumsum(sizes[sizes >= 2])
    return [part.tolist() for part in np.split(nodes, ends[:-1])] if len(ends) else []
