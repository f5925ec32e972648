"""A watch for training loops: entropy, equal twins and rank, every few steps, and one warning.

    watch = Watch.of_network(config, graph)            # JAX, a network of ours
    watch = Watch.of_pyg(model, x, edge_index)         # PyTorch Geometric
    for step in range(num_steps):
        ...                                            # a step of training
        watch(step, params)                            # of PyTorch: watch(step)
    watch.frame()

A look costs one evaluation of the model and about as much again. The watch measures what it costs,
and looks less often where that is more than its share of the time.
"""

import math
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, SupportsIndex

import jax
import jraph
import numpy as np

from gat_jax.diagnosis.looks import LayerLook, equal_everywhere, look_at, reason_of
from gat_jax.diagnosis.models.networks import observe_network
from gat_jax.diagnosis.models.observed import ObservedModel
from gat_jax.layers import EdgeWeight, LayerSettings, NetworkConfig, check_number
from gat_jax.runtime.arrays import check_count


class EqualTwinsWarning(UserWarning):
    """Nodes with the same senders come out equal, layer after layer, while a model trains."""


class Record(NamedTuple):
    """What was seen of one layer at one step."""

    step: int
    layer: str
    entropy: float  # without unit, from 0 to 1: mean over heads and receivers of two edges or more
    equal_share: float  # of the non-trivial twins those that come out equal to another; from 0 to 1
    rank: float  # effective rank of the layer's outputs
    note: str = ""  # what the reader of these numbers should know


class Watch:
    """Looks at a model every few steps of its training.

    Attributes:
      history: a `Record` for every layer at every look, in the order in which they were made.
      every: steps from one look to the next, as it is now.
      seconds: what all looks have taken together.
    """

    def __init__(
        self,
        observe: Callable[[Any], ObservedModel | None],
        *,
        every: int = 10,
        max_share: float = 0.05,
        warn_share: float = 0.5,
        patience: int = 2,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """Make a watch; nothing is looked at before it is first called.

        Args:
          observe: from parameters to the model in evaluation, as the functions `observe_*` return
            it; None where nothing can be said of them, as they are not finite.
          every: steps from one look to the next.
          max_share: of the time since the first call, all looks together. Where they take more,
            `every` is doubled; where they take less than a quarter of it, halved again, never
            below what was asked for. The first look compiles programs, so that in a short run it
            alone can take more.
          warn_share: of the twins, from which on they are worth a warning.
          patience: looks in a row that have to find so many, so that what is equal at the start
            and separates at once is worth none.
          clock: seconds since some moment.

        Raises:
          ValueError: for numbers out of their range.
        """
        self.asked = check_count("every", every, 1)
        self.patience = check_count("patience", patience, 1)
        for name, share in (("max_share", max_share), ("warn_share", warn_share)):
            check_number(name, share, " in (0, 1]", lambda x: (x > 0) & (x <= 1))
        self.observe, self.max_share, self.warn_share = observe, max_share, warn_share
        self.clock = clock
        self.every = self.asked
        self.history: list[Record] = []
        self.seconds = 0.0
        self._start = math.nan
        self._last: int | None = None
        self._looks: tuple[LayerLook, ...] = ()
        self._looks_in_a_row = 0
        self._has_warned = self._has_slowed = False

    @classmethod
    def of_network(
        cls,
        config: NetworkConfig,
        graph: jraph.GraphsTuple,
        *,
        settings: LayerSettings = LayerSettings(),
        edge_weight: EdgeWeight | None = None,
        **options: Any,
    ) -> "Watch":
        """Watch a network of ours: call it with the step and the parameters.

        Args:
          config: of the network, plain or of residual blocks.
          graph: that it is trained on, or another of which it should be watched.
          settings: of every layer; dropout plays no part.
          edge_weight: [E], the same in every layer.
          **options: as `Watch`.
        """

        def observe(params: Any) -> ObservedModel | None:
            if not all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(params)):
                return None
            return observe_network(
                params, config, graph, settings=settings, edge_weight=edge_weight
            )

        return cls(observe, **options)

    @classmethod
    def of_pyg(
        cls,
        model: Any,
        x: Any,
        edge_index: Any = None,
        *,
        every: int = 10,
        max_share: float = 0.05,
        warn_share: float = 0.5,
        patience: int = 2,
        **inputs: Any,
    ) -> "Watch":
        """Watch a model of PyTorch Geometric as it is: call it with the step alone.

        Training flags, random numbers and gradients of the model stay what they are.

        Args:
          model: a `torch.nn.Module`.
          x: as `observe_pyg`.
          edge_index: as `observe_pyg`.
          every: as `Watch`.
          max_share: as `Watch`.
          warn_share: as `Watch`.
          patience: as `Watch`.
          **inputs: further arguments of `observe_pyg`, which the model is called with.
        """
        from gat_jax.diagnosis.models.pyg import observe_pyg

        def observe(_: Any) -> ObservedModel | None:
            weights = model.parameters()
            if not all(bool(weight.detach().isfinite().all()) for weight in weights):
                return None
            # Whether the model is random would double the cost of each look.
            return observe_pyg(model, x, edge_index, is_run_twice=False, **inputs)

        options = {"warn_share": warn_share, "patience": patience}
        return cls(observe, every=every, max_share=max_share, **options)

    def __call__(self, step: SupportsIndex, params: Any = None) -> None:
        """Look at the model, if it is time to.

        Args:
          step: number of steps that were made; the first call looks whatever it is.
          params: what `observe` takes.

        Raises:
          ValueError: if the step is no whole number, or as `observe`.
        """
        step = check_count("step", step, 0)
        is_first = self._last is None
        if self._last is not None and 0 <= step - self._last < self.every:
            return
        if is_first:
            self._start = self.clock()
        self._last = step
        jax.block_until_ready(params)  # what is still computed of the training is none of our time
        begin = self.clock()
        self._look(step, params)
        now = self.clock()
        self.seconds += now - begin
        if not is_first:  # until then nothing was trained that its time could be a share of
            self._adapt(now - self._start)

    def frame(self) -> Any:
        """Return the history as a pandas DataFrame, one row for each look at each layer."""
        import pandas as pd

        return pd.DataFrame(self.history, columns=list(Record._fields))

    def _look(self, step: int, params: Any) -> None:
        """Add to the history what is seen now, and warn if it is time to."""
        model = self.observe(params)
        if model is None:
            note = "the parameters are not finite: not measured"
            self.history.append(Record(step, "", math.nan, math.nan, math.nan, note))
            self._looks_in_a_row = 0
            return
        self._looks = look_at(model, self._looks)
        self.history += [
            Record(step, x.name, x.entropy, x.equal_share, x.rank, x.note) for x in self._looks
        ]
        self._warn(step)

    def _warn(self, step: int) -> None:
        """Say once, in words, that twins come out equal in every layer."""
        equal = equal_everywhere(self._looks)
        is_worth_it = 0 < equal.num_twins * self.warn_share <= len(equal.nodes)
        self._looks_in_a_row = self._looks_in_a_row + 1 if is_worth_it else 0
        if self._has_warned or self._looks_in_a_row < self.patience:
            return
        self._has_warned = True
        reason, is_only = reason_of(self._looks, equal)
        because = "because" if is_only else "mostly because"
        warnings.warn(
            f"step {step}: {len(equal.nodes):,} of {equal.num_twins:,} twins come out equal in "
            f"every layer, {because} {reason}; see gat_jax.diagnose",
            EqualTwinsWarning,
            stacklevel=4,  # the line of the loop
        )

    def _adapt(self, elapsed: float) -> None:
        """Look less often where looks take too much of the time, and more often again later."""
        share = self.seconds / elapsed if elapsed > 0 else 1.0
        if share > self.max_share:
            self.every *= 2
            if not self._has_slowed:
                self._has_slowed = True
                note = (
                    f"looks took {share:.0%} of the time, more than {self.max_share:.0%}: the next "
                    f"one is {self.every} steps later, the others when the time allows"
                )
                last = self.history[-1]
                note = f"{last.note}; {note}" if last.note else note
                self.history[-1] = last._replace(note=note)
        elif share < self.max_share / 4:
            self.every = max(self.asked, self.every // 2)
