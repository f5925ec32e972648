"""How networks are trained: recipes by name; to add one, add one entry to `RECIPES`."""

import dataclasses

from gat_jax.layers import LayerConfig, LayerSettings
from gat_jax.training.config import TrainConfig
from gat_jax.training.settings import TrainSettings


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A network and how it is trained: everything but the graph and the seed."""

    hidden: tuple[LayerConfig, ...]  # layers before the last, from the input on
    output: LayerConfig  # the last layer; its channels are set to the number of classes
    config: TrainConfig
    settings: TrainSettings

    def configs(self, num_classes: int) -> tuple[LayerConfig, ...]:
        """Return the configuration of every layer for a task with so many classes."""
        return (*self.hidden, dataclasses.replace(self.output, channels=num_classes))


# The transductive experiments of the GAT paper (arXiv:1710.10903, section 3.3) and of its code: 8
# heads of 8 channels, then one head per class, dropout of 0.6 on features and attention, and L2 on
# all parameters. The paper's features are normalised by row before. It stops early, by the loss
# and accuracy of the validation nodes; this recipe makes a fixed number of steps. The paper's code
# also drops projected features, which these layers do not.
GAT_PAPER_CORA = Recipe(
    hidden=(LayerConfig(heads=8, channels=8, use_bias=False, use_output_bias=True),),
    output=LayerConfig(heads=1, concat=False, use_bias=False, use_output_bias=True),
    config=TrainConfig("adam", num_steps=1000, record_every=100),
    settings=TrainSettings(
        learning_rate=0.005,
        weight_decay=5e-4,
        layer=LayerSettings(feature_dropout=0.6, attention_dropout=0.6),
    ),
)

RECIPES = {"gat_paper_cora": GAT_PAPER_CORA}
