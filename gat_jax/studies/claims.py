"""The claims, each with its rule: from measured numbers to a verdict.

One table, `CLAIMS`, says for every id what is claimed, which of the article's eight claims it
tests, and from which numbers which verdict follows. It knows nothing of how numbers are made.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from gat_jax.runtime.stats import Count, binomial_interval
from gat_jax.studies import claim_ids
from gat_jax.studies.claim_ids import ONE_HEAD, Setting

Verdict = Literal["confirmed", "refined", "refuted", "measured"]

ARTICLE_CLAIMS: dict[int, str] = {
    1: "The two-head tutorial layer gives nodes 3 and 4 different outputs.",
    2: "One head with a = [-0.2, 0.3, 0.1, -0.1] gives them the same output; "
    "the cause is uniform attention.",
    3: "Under random initialisation about 50% of the outputs agree to four decimals.",
    4: "The cause is that all scores become equal.",
    5: "Random initialisation almost never falls into the special case.",
    6: "If it does, gradient descent leaves it quickly.",
    7: "More heads make it less likely.",
    8: "Training avoids it by itself, so it does not affect performance.",
}


OPTIMIZERS = {"sgd": "SGD", "adam": "Adam"}  # as ids name them, and as readers do


class Measurement(NamedTuple):
    """What was found for one id. `None` as an estimate means "never"."""

    estimate: float | None
    low: float | None
    high: float | None
    num_samples: int
    explanation: str
    exact: float | None = None


def deterministic(value: float, explanation: str, exact: float | None = None) -> Measurement:
    """Return a number without sampling error."""
    return Measurement(value, value, value, 1, explanation, exact)


def share(successes: Count, trials: Count, explanation: str) -> Measurement:
    """Return a probability with its exact binomial 95% interval."""
    low, high = binomial_interval(successes, trials)
    estimate = float(np.divide(successes, trials))
    return Measurement(estimate, float(low), float(high), int(np.asarray(trials)), explanation)


@dataclasses.dataclass(frozen=True)
class Rule:
    """Ranges for the numbers; anything outside both is refuted, and so is "never"."""

    confirmed: tuple[float, float]  # the whole 95% interval has to lie in it
    refined: tuple[float, float]  # the estimate has to lie in it
    relative_to: str | None = None  # id whose estimate is the unit of both ranges

    def verdict(self, measured: Measurement, unit: float = 1.0) -> Verdict:
        """Apply the rule; `unit` is the estimate of `relative_to`."""
        if measured.estimate is None or measured.low is None or measured.high is None:
            return "refuted"
        low, high = (bound * unit for bound in self.confirmed)
        if low <= measured.low and measured.high <= high:
            return "confirmed"
        low, high = (bound * unit for bound in self.refined)
        return "refined" if low <= measured.estimate <= high else "refuted"

    def text(self) -> str:
        """Say the rule in words."""
        unit = f" times {self.relative_to}" if self.relative_to else ""
        return (
            f"confirmed if the 95% interval is {_range(self.confirmed)}{unit}; refined if the "
            f"estimate is {_range(self.refined)}{unit}; otherwise (or if never) refuted"
        )


def _range(ends: tuple[float, float]) -> str:
    low, high = ends
    if low == -math.inf:
        return f"at most {high:g}"
    return f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}]"


class Claim(NamedTuple):
    """One id: what it says, which claim of the article it tests, and how it is judged."""

    text: str
    article_claim: int | None = None
    rule: Rule | None = None  # None: measured, and nothing is claimed


ABOUT_HALF = Rule(confirmed=(0.45, 0.55), refined=(0.25, 0.75))
RARE = Rule(confirmed=(0.0, 0.01), refined=(0.0, 0.05))
# "Quickly" is within 100 steps, one in thirty of those watched.
ESCAPE_STEP = Rule(confirmed=(0.0, 100.0), refined=(0.0, 1000.0))
SHARE_OF_STEPS = Rule(confirmed=(0.0, 100 / 3000), refined=(0.0, 0.5))
# With fewer pairs of non-trivial twins, a graph's numbers say nothing about graphs like it.
FEW_PAIRS = 10
ONE_HEAD_COLLISION = claim_ids.of_init("collision", ONE_HEAD)

CLAIMS: dict[str, Claim] = {
    claim_ids.TUTORIAL_ERROR: Claim(
        "Our two-head layer reproduces the tutorial's printed outputs, which differ for its twins.",
        1,
        # Four printed decimals are off by up to 5e-5, float32 by some 1e-6.
        Rule(confirmed=(0.0, 6e-5), refined=(0.0, 1e-3)),
    ),
    "article.normalised_entropy": Claim(
        "With the article's parameters the twins' attention is uniform.",
        2,
        Rule(confirmed=(1.0 - 1e-6, 1.0 + 1e-6), refined=(0.99, 1.0)),
    ),
    "article.twin_gap": Claim(
        "With the article's parameters the twins' outputs are the same.",
        2,
        Rule(confirmed=(0.0, 0.0), refined=(0.0, 1e-6)),
    ),
    "article.lowest_logit": Claim(
        "Uniform attention is the article's only cause: the twins' rows are not in the positive "
        "regime, in which every logit is at least 0.",
        2,
        Rule(confirmed=(-math.inf, -1e-9), refined=(0.0, math.inf)),
    ),
    ONE_HEAD_COLLISION: Claim(
        "A random initialisation of one head almost never gives twins equal rows.", 5, RARE
    ),
    **{
        claim_ids.of_init("collision", Setting("gat", heads)): Claim(
            f"{heads} heads collide together less often than one head.",
            7,
            Rule(confirmed=(0.0, 0.9), refined=(0.0, 1.0), relative_to=ONE_HEAD_COLLISION),
        )
        for heads in (2, 4, 8)
    },
    claim_ids.of_init("match_4_decimals", ONE_HEAD): Claim(
        "About half of all initialisations give outputs equal to four decimals.", 3, ABOUT_HALF
    ),
    claim_ids.of_init("uniform_attention", ONE_HEAD): Claim(
        "A random initialisation of one head almost never gives both twins uniform attention.",
        5,
        RARE,
    ),
    claim_ids.of_init("explained_by_regime", ONE_HEAD): Claim(
        "Few collisions are due to a linear regime.",
        4,
        Rule(confirmed=(0.0, 0.05), refined=(0.0, 0.5)),
    ),
    **{
        claim_ids.of_init("collision", Setting("gat", 1, variant=features)): Claim(
            f"Collisions of one head, features {text}."
        )
        for features, text in (
            ("uniform01", "drawn from U[0, 1]"),
            ("normal", "drawn from N(0, 1)"),
            ("standardised", "of the tutorial, standardised per column"),
        )
    },
    **{
        claim_ids.of_init("collision", Setting("gatv2", 1, channels)): Claim(
            f"Collisions of one GATv2 head with {channels} channel{'s'[: channels > 1]}."
        )
        for channels in (1, 2, 4, 8)
    },
    claim_ids.of_init("collision", claim_ids.GCN): Claim("Collisions of GCN, which has no query."),
    claim_ids.of_init("collision", claim_ids.GAUSSIAN): Claim(
        "Collisions of one head with W = I and Gaussian a."
    ),
    claim_ids.of_init("equal_outputs", claim_ids.RESIDUAL): Claim(
        "Outputs equal to the last bit where a residual path is added to one head."
    ),
    claim_ids.POWER_LAW: Claim(
        "Eight heads collide as eight independent copies of one head: p_8 = p_1^8.",
        7,
        Rule(confirmed=(0.99, 1.01), refined=(0.8, 1.25)),
    ),
    **{
        claim_ids.of_runs(run, step): Claim(
            f"{text} ({optimizer}, {heads} head{'s'[: heads > 1]})", number, rule
        )
        for optimizer in OPTIMIZERS
        for heads in (1, 4)
        for run in (claim_ids.run_name(optimizer, heads),)
        for step, text, number, rule in (
            (0, "Share of runs whose twins are collided before training", None, None),
            (
                100,
                "After 100 steps few runs are collided, of as many as at the start",
                6,
                Rule((0.0, 0.1), (0.0, 0.5), claim_ids.of_runs(run, 0)),
            ),
            (
                1000,
                "After 1000 steps few runs are collided, of as many as at the start",
                8,
                Rule((0.0, 0.1), (0.0, 0.5), claim_ids.of_runs(run, 0)),
            ),
        )
    },
    claim_ids.LOSS_FLOOR: Claim(
        "Runs with collided twins reach a loss below the floor of (2 ln 2)/4 = 0.34657.",
        8,
        # The losses are float32: what is above the floor less 1e-5 is not below it.
        Rule(confirmed=(0.0, 0.9 * 0.34657), refined=(0.0, 0.34656)),
    ),
    **{
        claim_ids.of_article_start(optimizer, quantity): Claim(f"{text} ({optimizer})", 6, rule)
        for optimizer in OPTIMIZERS
        for quantity, text, rule in (
            (
                "entropy_escape_step",
                "From the article's parameters the attention soon stops being uniform",
                ESCAPE_STEP,
            ),
            (
                "collided_share",
                "From the article's parameters the twins are collided at few of the steps",
                SHARE_OF_STEPS,
            ),
        )
    },
}


def judge(measured: dict[str, Measurement], extra: dict[str, Claim]) -> list[dict]:
    """Turn measurements into the entries of `claims.json`, in the order of the tables.

    Args:
      measured: one measurement per id.
      extra: claims beyond `CLAIMS`, such as those about particular graphs.

    Raises:
      ValueError: if an id was not measured, or is not claimed.
    """
    return verdicts(CLAIMS | extra, measured)


def verdicts(claims: Mapping[str, Claim], measured: Mapping[str, Measurement]) -> list[dict]:
    """Judge the claims of any study; arguments, entries and errors as those of `judge`.

    A claim of which there was nothing to measure is "measured", and nothing is decided.
    """
    if claims.keys() != measured.keys():
        odd = sorted(claims.keys() ^ measured.keys())
        raise ValueError(f"measured: expected the ids of the claims, got a difference in {odd}")
    entries = []
    for name, claim in claims.items():
        number = measured[name]
        verdict: Verdict = "measured"
        if claim.rule is not None and number.num_samples:
            unit = 1.0
            if claim.rule.relative_to is not None:
                unit = measured[claim.rule.relative_to].estimate or 0.0
            verdict = claim.rule.verdict(number, unit)
        entries.append(
            {
                "id": name,
                "claim": claim.text,
                "article_claim": claim.article_claim,
                "verdict": verdict,
                "estimate": number.estimate,
                "interval": [number.low, number.high],
                "exact": number.exact,
                "num_samples": number.num_samples,
                "rule": claim.rule.text() if claim.rule else "measured: no claim of the article",
                "explanation": number.explanation,
            }
        )
    return entries
