"""What the study on real graphs says of twins in training, and the rules of its verdicts.

A *place* is a graph without or with self-loops, which decide who is a twin. Every statement is a
number for each seed: a mean over places, or a difference of two settings that share graph, seed and
split. Its interval is that of the mean over seeds. Nothing here knows how runs are made.

The benchmark's comparison is GAT with self-loops against GAT-sep without them. With the accuracies
of all four kinds, the gap is the sum of two effects, each the mean of two differences:

    gap          = sep without - gat with
    architecture = ((sep with - gat with) + (sep without - gat without)) / 2
    loops        = ((gat without - gat with) + (sep without - sep with)) / 2
    interaction  = (sep without - sep with) - (gat without - gat with)
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from gat_jax.layers import LayerName
from gat_jax.runtime.stats import half_width
from gat_jax.studies.claims import FEW_PAIRS, Claim, Measurement, Rule, deterministic
from gat_jax.training.recipes import FeatureScaling

# plain and residual: two layers. The others: the blocks of Platonov et al. 2023.
Form = Literal["plain", "residual", "gat_blocks", "sep_blocks"]


class Network(NamedTuple):
    """What is trained, but for the graph."""

    form: Form
    layer: LayerName = "gat"
    heads: int = 1  # of every layer
    features: FeatureScaling = "raw"


class Place(NamedTuple):
    """A graph and its self-loops."""

    graph: str
    has_loops: bool  # whether every node has one


class Twins(NamedTuple):
    """Who is a twin in a place; *contested* ones have a twin of another label."""

    pairs: int  # non-trivial
    trivial_pairs: int
    contested: int  # nodes, of the non-trivial twins
    trivial_contested: int


class Row(NamedTuple):
    """Runs of one network in one place, an entry for each of S seeds; NaN where there is none.

    Shares are of the pairs of non-trivial twins, in the last layer; accuracies are of test nodes,
    losses and floors nats of the training nodes, of the last state unless the recipe keeps another.
    """

    twins: Twins
    equal_at_start: Float[np.ndarray, " seeds"]
    equal_after: Float[np.ndarray, " seeds"]
    test_accuracy: Float[np.ndarray, " seeds"]
    contested_accuracy: Float[np.ndarray, " seeds"]  # of contested non-trivial twins
    other_accuracy: Float[np.ndarray, " seeds"]  # of all others
    loss: Float[np.ndarray, " seeds"]
    floor: Float[np.ndarray, " seeds"]  # of the loss, while all twins stay equal
    unavoidable_floor: Float[np.ndarray, " seeds"]  # as trivial twins are, without residual path


Rows = Mapping[tuple[Place, Network], Row]

BASE = Network("plain")
REMEDIES: dict[str, Network] = {
    "heads": BASE._replace(heads=8),
    "gatv2": BASE._replace(layer="gatv2"),
    "residual": BASE._replace(form="residual"),
    "standardised": BASE._replace(features="standardised"),
}
GAT, SEP = Network("gat_blocks", heads=8), Network("sep_blocks", heads=8)

ONE_HEAD_AT_START = "start.equal.gat.h1"
FLOOR_ROUNDING = 1e-5  # nats: losses are float32


def at_least(confirmed: float, refined: float, unit: str | None = None) -> Rule:
    """Return the rule of a number that is claimed to be large."""
    return Rule((confirmed, math.inf), (refined, math.inf), unit)


def at_most(confirmed: float, refined: float, unit: str | None = None) -> Rule:
    """Return the rule of a number that is claimed to be small."""
    return Rule((-math.inf, confirmed), (-math.inf, refined), unit)


NO_CHANGE = Rule((-0.01, 0.01), (-0.03, 0.03))  # of an accuracy
REMEDY_WORDS = {
    "heads": "Eight heads instead of one",
    "gatv2": "GATv2 instead of GAT",
    "residual": "A residual path",
    "standardised": "Standardised features",
}

CLAIMS: dict[str, Claim] = {
    ONE_HEAD_AT_START: Claim(
        "At initialisation one head of GAT gives many pairs of non-trivial twins equal rows.",
        rule=at_least(0.25, 0.1),
    ),
    "start.equal.gat.h8": Claim(
        "Eight heads of GAT leave few of these pairs equal at initialisation.",
        rule=at_most(0.1, 0.5, ONE_HEAD_AT_START),
    ),
    "start.equal.gatv2.h1": Claim(
        "One head of GATv2 leaves few of these pairs equal at initialisation.",
        rule=at_most(0.1, 0.5, ONE_HEAD_AT_START),
    ),
    "after.equal.gat.h1": Claim(
        "Training separates twins by itself: of the pairs that one head of GAT leaves equal at "
        "initialisation, as many are less than half after it.",
        rule=at_most(0.5, 0.9, ONE_HEAD_AT_START),
    ),
    "after.contested_deficit.gat.h1": Claim(
        "Contested twins are classified worse than others: accuracy of the others less theirs.",
        rule=at_least(0.05, 0.0),
    ),
    "floor.kept": Claim(
        "No run without a residual path has a loss below the floor of trivial twins: lowest loss "
        "less floor, in nats.",
        rule=at_least(-FLOOR_ROUNDING, -1e-3),
    ),
    "floor.excess.gat.h1": Claim(
        "Loss less the floor while all twins stay equal, after training, in nats."
    ),
    **{
        f"remedy.{name}.{quantity}": Claim(f"{REMEDY_WORDS[name]} {text}", rule=rule)
        for name in REMEDIES
        for quantity, text, rule in (
            (
                "equal",
                "leaves fewer pairs of non-trivial twins equal after training.",
                at_most(-0.1, -0.01),
            ),
            (
                "contested",
                "raises the accuracy on contested twins.",
                at_least(0.02, 0.0),
            ),
            ("test", "changes the accuracy on all test nodes.", None),
        )
        # Behind a residual path a layer's rows are equal as often; its outputs are not.
        if (name, quantity) != ("residual", "equal")
    },
    "remedy.loops.test": Claim(
        "Self-loops raise the accuracy of one head of GAT on all test nodes.",
        rule=at_least(0.01, 0.0),
    ),
    "benchmark.gap": Claim(
        "GAT-sep without self-loops is more accurate than GAT with them, as published.",
        rule=at_least(0.01, 0.0),
    ),
    "benchmark.architecture": Claim("What the architecture makes of this gap."),
    "benchmark.loops": Claim(
        "Self-loops, and with them the kind of twins, make next to nothing of this gap.",
        rule=NO_CHANGE,
    ),
    "benchmark.architecture_less_loops": Claim(
        "The architecture makes more of this gap than the self-loops.",
        rule=at_least(0.01, 0.0),
    ),
    "benchmark.interaction": Claim(
        "Taking self-loops away changes GAT-sep as much as GAT.",
        rule=NO_CHANGE,
    ),
}


def of_graph(name: str, graph: str) -> str:
    """Return the id of a statement about all graphs, as it is measured on one of them."""
    return f"{name}.{graph}"


BY_GRAPH = ("remedy.loops.test", *(name for name in CLAIMS if name.startswith("benchmark.")))


def extra_claims(graphs: Sequence[str]) -> dict[str, Claim]:
    """Return what is measured of single graphs; nothing is claimed of them."""
    return {
        of_graph(name, graph): Claim(f"{CLAIMS[name].text} (measured on {graph})")
        for name in BY_GRAPH
        for graph in graphs
    }


# --- from rows to numbers -------------------------------------------------------------------------


def measure(rows: Rows) -> dict[str, Measurement]:
    """Measure every id of `CLAIMS` and of `extra_claims`.

    Args:
      rows: of all networks in all places.

    Returns:
      By id. Where there is nothing to measure, such as twins, a measurement of no samples.
    """
    graphs = list(dict.fromkeys(place.graph for place, _ in rows))
    many = _places(rows, lambda twins: twins.pairs)
    contested = _places(rows, lambda twins: twins.contested)
    of_pairs = f"Non-trivial twins of {_names(many)}."
    of_contested = f"Contested twins of {_names(contested)}."

    def mean(field: str, network: Network, places: Sequence[Place], text: str) -> Measurement:
        return mean_over_seeds([getattr(rows[place, network], field) for place in places], text)

    def change(field: str, network: Network, places: Sequence[Place], text: str) -> Measurement:
        pairs = [(rows[place, network], rows[place, BASE]) for place in places]
        return mean_over_seeds([getattr(a, field) - getattr(b, field) for a, b in pairs], text)

    measured = {
        ONE_HEAD_AT_START: mean("equal_at_start", BASE, many, of_pairs),
        "start.equal.gat.h8": mean("equal_at_start", REMEDIES["heads"], many, of_pairs),
        "start.equal.gatv2.h1": mean("equal_at_start", REMEDIES["gatv2"], many, of_pairs),
        "after.equal.gat.h1": mean("equal_after", BASE, many, of_pairs),
        "after.contested_deficit.gat.h1": mean_over_seeds(
            [
                rows[place, BASE].other_accuracy - rows[place, BASE].contested_accuracy
                for place in contested
            ],
            of_contested,
        ),
        "floor.kept": _least_excess(rows),
        "floor.excess.gat.h1": mean_over_seeds(
            [row.loss - row.floor for (_, network), row in rows.items() if network == BASE],
            "All graphs, without and with self-loops.",
        ),
    }
    everywhere = list(dict.fromkeys(place for place, _ in rows))
    for name, network in REMEDIES.items():
        if name != "residual":
            measured[f"remedy.{name}.equal"] = change("equal_after", network, many, of_pairs)
        found = change("contested_accuracy", network, contested, of_contested)
        measured[f"remedy.{name}.contested"] = found
        found = change("test_accuracy", network, everywhere, "All graphs, all test nodes.")
        measured[f"remedy.{name}.test"] = found
    return measured | _of_loops(rows, graphs)


def _of_loops(rows: Rows, graphs: Sequence[str]) -> dict[str, Measurement]:
    """Measure what self-loops change, on all graphs and on each."""

    def accuracy(network: Network, has_loops: bool) -> Float[np.ndarray, "graphs seeds"]:
        return np.stack([rows[Place(g, has_loops), network].test_accuracy for g in graphs])

    gat_with, gat_without = accuracy(GAT, True), accuracy(GAT, False)
    sep_with, sep_without = accuracy(SEP, True), accuracy(SEP, False)
    architecture = ((sep_with - gat_with) + (sep_without - gat_without)) / 2
    loops = ((gat_without - gat_with) + (sep_without - sep_with)) / 2
    differences = {
        "remedy.loops.test": accuracy(BASE, True) - accuracy(BASE, False),
        "benchmark.gap": sep_without - gat_with,
        "benchmark.architecture": architecture,
        "benchmark.loops": loops,
        "benchmark.architecture_less_loops": architecture - loops,
        "benchmark.interaction": (sep_without - sep_with) - (gat_without - gat_with),
    }
    measured = {}
    for name, by_graph in differences.items():
        measured[name] = mean_over_seeds(list(by_graph), f"Mean over {', '.join(graphs)}.")
        for graph, values in zip(graphs, by_graph, strict=True):
            measured[of_graph(name, graph)] = mean_over_seeds([values], f"{graph} alone.")
    return measured


def _places(rows: Rows, number_of: Callable[[Twins], int]) -> list[Place]:
    """Return the places with at least `FEW_PAIRS` of something: few say nothing of their like."""
    found = (place for (place, _), row in rows.items() if number_of(row.twins) >= FEW_PAIRS)
    return list(dict.fromkeys(found))


def _names(places: Sequence[Place]) -> str:
    words = [f"{graph} {'with' if loops else 'without'} self-loops" for graph, loops in places]
    return ", ".join(words) or "no graph"


def _least_excess(rows: Rows) -> Measurement:
    """Return the smallest distance of a loss from the floor that it cannot get below."""
    excesses = np.concatenate(
        [
            (row.loss - row.unavoidable_floor)[row.unavoidable_floor > 0]
            for (_, network), row in rows.items()
            if network.form == "plain"
        ]
    )
    excesses = excesses[np.isfinite(excesses)]
    if not len(excesses):
        return nothing("No run has trivial twins of different labels.")
    found = float(excesses.min())
    return deterministic(found, f"The lowest of {len(excesses)} runs with such a floor.")


def mean_over_seeds(values: Sequence[Float[np.ndarray, " seeds"]], explanation: str) -> Measurement:
    """Return the mean of a number of several places, with its 95% interval (Student's t).

    Args:
      values: of each place. A seed without a number in one place has the mean of the others.
      explanation: what is measured.

    Returns:
      Seeds are the samples: the places are not drawn. With fewer than two there is no measurement.
      Where all seeds agree, the interval has no width.
    """
    if not values:
        return nothing(explanation)
    values_ps = np.stack(list(values))
    is_known = np.isfinite(values_ps)
    has_any = is_known.any(axis=0)
    number = int(has_any.sum())
    if number < 2:
        return nothing(explanation)
    sums = np.where(is_known, values_ps, 0.0).sum(axis=0)[has_any]
    by_seed = sums / is_known.sum(axis=0)[has_any]
    mean = float(by_seed.mean())
    half = half_width(by_seed)
    return Measurement(mean, mean - half, mean + half, number, explanation)


def nothing(explanation: str) -> Measurement:
    """Return the measurement of what is not there."""
    return Measurement(None, None, None, 0, f"Nothing to measure. {explanation}")
