"""The ids of claims: the one place that builds them and takes them apart.

An id is made of words with points between them, and says what was measured and in which setting:

    init.collision.gat.h8             a quantity of random initialisations, and a `Setting`
    training.collided.sgd.h4.step100  optimiser, heads and step of trainings from random starts
    training.article_start.adam.collided_share
    graph.karate_club.with_loops.collision.gat.h1

The ids stand in every `claims.json`, so what these functions return must not change.
"""

import re
from typing import NamedTuple

TUTORIAL_ERROR = "tutorial.max_abs_error"
POWER_LAW = "heads.power_law.h8"
LOSS_FLOOR = "training.loss_floor"


class Setting(NamedTuple):
    """What is initialised: a layer, and how it differs from one head of the tutorial's."""

    layer: str
    heads: int | None = None  # None: the layer has none, or it is not varied
    channels: int | None = None  # None: the tutorial's
    variant: str | None = None  # such as "residual" or the kind of features

    @property
    def name(self) -> str:
        """The setting as the end of an id, such as "gat.h8" or "gatv2.h1.c4"."""
        heads = None if self.heads is None else f"h{self.heads}"
        channels = None if self.channels is None else f"c{self.channels}"
        return ".".join(part for part in (self.layer, heads, channels, self.variant) if part)

    @classmethod
    def parse(cls, name: str) -> "Setting":
        """Undo `name`.

        Raises:
          ValueError: if this is the name of no setting.
        """
        found = re.fullmatch(
            r"([a-z]\w*?)(?:\.h(\d+))?(?:\.c(\d+))?(?:\.((?![hc]\d)[a-z]\w*))?", name
        )
        if found is None:
            raise ValueError(f"setting: expected a name such as gat.h1.residual, got {name}")
        layer, heads, channels, variant = found.groups()
        return cls(
            layer,
            None if heads is None else int(heads),
            None if channels is None else int(channels),
            variant,
        )


ONE_HEAD = Setting("gat", heads=1)
RESIDUAL = Setting("gat", heads=1, variant="residual")
GAUSSIAN = Setting("gat", variant="gaussian")
GCN = Setting("gcn")


def of_init(quantity: str, setting: Setting) -> str:
    """Return the id of a quantity of random initialisations, such as "collision"."""
    return f"init.{quantity}.{setting.name}"


def run_name(optimizer: str, heads: int) -> str:
    """Return the name of trainings from random starts, the middle of their ids."""
    return f"{optimizer}.h{heads}"


def of_runs(run: str, step: int) -> str:
    """Return the id of the share of runs whose twins are collided at a step.

    Args:
      run: as `run_name` returns it.
      step: number of updates.
    """
    return f"training.collided.{run}.step{step}"


def of_article_start(optimizer: str, quantity: str) -> str:
    """Return the id of a quantity of the training from the article's parameters."""
    return f"training.article_start.{optimizer}.{quantity}"


def of_graph(graph: str, loops: str, quantity: str) -> str:
    """Return the id of a quantity of a graph.

    Args:
      graph: its name.
      loops: "with" or "without" self-loops.
      quantity: such as "loss_floor".
    """
    return f"graph.{graph}.{loops}_loops.{quantity}"


def of_graph_collision(graph: str, loops: str, heads: int) -> str:
    """Return the id of the share of a graph's twin pairs that are equal at initialisation."""
    return of_graph(graph, loops, f"collision.{Setting('gat', heads=heads).name}")
