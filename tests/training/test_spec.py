"""What is trained: axes, where their values end up, and keys that name results."""

import dataclasses

import jraph
import numpy as np
import pytest

from gat_jax.graphs import load_task
from gat_jax.layers import BlocksConfig, layer_configs
from gat_jax.training import RECIPES, TrainSpec
from gat_jax.training.spec import AXES, digest_of


def only(**fields):
    """The recipe of a spec with one setting."""
    (setting,) = TrainSpec(**fields).settings()
    return setting.recipe


def test_a_spec_without_values_is_the_recipe_with_its_measures():
    (setting,) = TrainSpec(recipe="gat_paper_cora").settings()
    recipe = RECIPES["gat_paper_cora"]
    assert setting.name == "recipe"
    assert setting.values == {}
    config = dataclasses.replace(recipe.config, measures=TrainSpec().measures)
    assert setting.recipe == dataclasses.replace(recipe, config=config)
    assert TrainSpec().chunk_size == "auto"


def test_settings_are_all_combinations_in_order():
    spec = TrainSpec(learning_rate=(0.1, 0.2), heads=(1, 2), slope=(0.3,))
    names = [setting.name for setting in spec.settings()]
    assert names == [
        "learning_rate=0.1, slope=0.3, heads=1",
        "learning_rate=0.1, slope=0.3, heads=2",
        "learning_rate=0.2, slope=0.3, heads=1",
        "learning_rate=0.2, slope=0.3, heads=2",
    ]


def test_traced_values_end_up_in_the_settings():
    rates = {"learning_rate": 0.11, "weight_decay": 0.12}
    dropped = {"feature_dropout": 0.13, "attention_dropout": 0.14, "slope": 0.15}
    values = rates | dropped
    settings = only(recipe="gat_paper_cora", **{k: (v,) for k, v in values.items()}).settings
    assert {name: getattr(settings, name) for name in rates} == rates
    assert {name: getattr(settings.layer, name) for name in dropped} == dropped


def test_shapes_of_plain_layers_change_all_but_the_last():
    paper = layer_configs(RECIPES["gat_paper_cora"].network)
    recipe = only(recipe="gat_paper_cora", heads=(4,), channels=(3,), depth=(4,), layer=("gatv2",))
    *hidden, last = layer_configs(recipe.network)
    wanted = dataclasses.replace(paper[0], heads=4, channels=3, layer="gatv2")
    assert hidden == [wanted] * 3
    assert last == dataclasses.replace(paper[-1], layer="gatv2")
    (alone,) = layer_configs(only(recipe="gat_paper_cora", depth=(1,), heads=(2,)).network)
    assert alone == dataclasses.replace(paper[-1], heads=2)


def test_heads_of_a_network_of_one_layer_are_those_of_its_only_one():
    (layer,) = layer_configs(only(heads=(8,)).network)
    assert layer.heads == 8
    assert not layer.concat


def test_blocks_keep_their_width():
    recipe = only(recipe="platonov_gat_sep", heads=(4,), depth=(5,), layer=("gatv2",))
    network = recipe.network
    assert isinstance(network, BlocksConfig)
    assert (network.width, network.depth, network.sep) == (512, 5, True)
    assert (network.layer.heads, network.layer.channels, network.layer.layer) == (4, 128, "gatv2")


def test_options_of_the_data_and_of_the_run_end_up_in_the_recipe():
    recipe = only(
        recipe="gat_paper_cora",
        features=("standardised",),
        self_loops=(False,),
        num_steps=30,
        record_every=15,
        measures=(),
    )
    assert (recipe.features, recipe.self_loops) == ("standardised", False)
    config = RECIPES["gat_paper_cora"].config
    changed = {"num_steps": 30, "record_every": 15, "measures": ()}
    assert recipe.config == dataclasses.replace(config, **changed)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_seeds": 0}, "num_seeds: expected at least 1, got 0"),
        ({"seed": 2**32}, "seed: expected 0 to 4294967295, got 4294967296"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"chunk_size": 0}, "chunk_size: expected at least 1, got 0"),
        ({"heads": [1]}, r"heads: expected a tuple of values, got \[1\]"),
        ({"heads": (2, 1, 2)}, "heads: expected different values, got 2 twice"),
        ({"measures": ("entropy",)}, "measures: expected some of entropy_mean, .* got 'entropy'"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_spec_refuses(fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        TrainSpec(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"recipe": "gat"}, "recipe: expected gat_paper_cora, .* or a .toml file, got 'gat'"),
        ({"depth": (2,)}, "depth: expected 1, as the recipe has, got 2"),
        ({"depth": (0,)}, "depth: expected at least 1, got 0"),
        ({"channels": (4,)}, "channels: expected a network of several layers, got one with"),
        ({"heads": (0,)}, "heads: expected at least 1, got 0"),
        ({"layer": ("gcn",), "heads": (2,)}, "layer: expected one head"),
        ({"num_steps": 15}, "record_every: expected a divisor of num_steps, got record_every=10"),
        ({"learning_rate": (-1.0,)}, "learning_rate: expected a finite number of at least 0"),
        ({"learning_rate": (np.nan,)}, "learning_rate: expected a finite number of at least 0"),
        ({"feature_dropout": (1.5,)}, r"feature_dropout: expected a finite number in \[0, 1\)"),
        ({"recipe": "platonov_gat", "heads": (7,)}, "heads: expected a divisor of the width 512"),
        ({"recipe": "platonov_gat", "channels": (8,)}, "channels: expected heads alone"),
        ({"recipe": "platonov_gat", "depth": (0,)}, "depth: expected at least 1, got 0"),
    ],
)
def test_values_that_a_recipe_cannot_have_are_refused(fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        TrainSpec(**fields).settings()


# --- keys ---------------------------------------------------------------------------------------


def keys(digest="0", **fields):
    spec = TrainSpec(**fields)
    return [setting.key(spec, digest) for setting in spec.settings()]


def test_keys_tell_apart_what_results_depend_on():
    base, pubmed = {"recipe": "gat_paper_cora"}, {"recipe": "gat_paper_pubmed"}
    values = {
        "learning_rate": (0.2, 0.3),
        "weight_decay": (0.2, 0.0),
        "feature_dropout": (0.1, 0.2),
        "attention_dropout": (0.1, 0.2),
        "slope": (0.1, 0.3),
        "layer": ("gatv2",),
        "heads": (1, 2),
        "channels": (1, 2),
        "depth": (1, 3),
        "features": ("raw", "standardised"),
        "self_loops": (False,),
    }
    assert set(values) == set(AXES)
    others = [{"num_steps": 20}, {"record_every": 5}, {"measures": ()}, {"seed": 1}]
    others += [{"chunk_size": 9}, {"digest": "1"}]
    found = keys(**base) + keys(**pubmed)
    for axis, of_axis in values.items():
        found += keys(**base, **{axis: of_axis})
    for other in others:
        found += keys(**base, **other)
    assert len(set(found)) == len(found) == 2 + 20 + len(others)


def test_keys_do_not_depend_on_how_many_there_are_nor_on_names():
    assert keys() == keys(num_seeds=500)
    assert keys(learning_rate=(0.1,)) == keys(learning_rate=(0.3, 0.1))[1:]
    (recipe,) = keys(recipe="gat_paper_cora")
    assert keys(recipe="gat_paper_cora", heads=(8,)) == [recipe]  # as the paper has


def test_the_digest_is_of_graph_features_labels_and_splits():
    task = load_task("karate_club")
    graph = task.graph
    assert isinstance(graph, jraph.GraphsTuple)
    masks = np.arange(3)[:, None] == np.arange(len(graph.nodes))[None] % 3
    splits = tuple(mask[None] for mask in masks)
    digests = {
        digest_of(task._replace(**changes))
        for changes in (
            {},
            {"labels": task.labels[::-1].copy()},
            {"splits": splits},
            {"splits": splits[::-1]},
            {"graph": graph._replace(nodes=2 * graph.nodes)},
            {"graph": graph._replace(senders=graph.receivers, receivers=graph.senders[::-1])},
            {"graph": graph._replace(edges=np.ones((len(graph.senders), 1), np.float32))},
        )
    }
    assert len(digests) == 7
    assert digest_of(task._replace(name="other")) in digests
