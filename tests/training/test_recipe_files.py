"""Recipes in TOML files: those that are built in, and what is refused by file and field."""

import dataclasses

import pytest
from training_runs import RECIPE

from gat_jax.layers import BlocksConfig, LayerConfig, LayerSettings, PlainConfig, layer_configs
from gat_jax.training import RECIPES, Recipe, Stopping, TrainConfig, TrainSettings, load_recipe

BLOCKS = "[blocks]\nwidth = 8\nheads = 2\n"


def read(folder, text):
    (folder / "mine.toml").write_text(text)
    return load_recipe(folder / "mine.toml")


def test_every_built_in_recipe_has_a_source_and_makes_a_network():
    assert set(RECIPES) == {
        *("gat_paper_cora", "gat_paper_pubmed", "platonov_gat", "platonov_gat_sep", "tutorial"),
    }
    for name, recipe in RECIPES.items():
        assert load_recipe(name) is recipe
        assert recipe.source
        network = recipe.configs(5)
        assert layer_configs(network)
        assert not isinstance(network, BlocksConfig) or network.num_classes == 5
        assert isinstance(network, BlocksConfig) or network[-1].num_outputs == 5


def test_papers_are_as_their_authors_say():
    cora, pubmed = RECIPES["gat_paper_cora"], RECIPES["gat_paper_pubmed"]
    for recipe, rate, decay, heads in ((cora, 0.005, 5e-4, 1), (pubmed, 0.01, 1e-3, 8)):
        assert recipe.settings == TrainSettings(
            rate,
            weight_decay=decay,
            layer=LayerSettings(feature_dropout=0.6, attention_dropout=0.6),
        )
        hidden, last = layer_configs(recipe.configs(3))
        assert (hidden.heads, hidden.channels, last.heads, last.concat) == (8, 8, heads, False)
        assert recipe.config.stopping == Stopping("loss_and_score", 100)
        assert (recipe.features, recipe.self_loops) == ("normalised_rows", True)
    for name, sep in (("platonov_gat", False), ("platonov_gat_sep", True)):
        recipe = RECIPES[name]
        assert (recipe.network.width, recipe.network.layer.heads) == (512, 8)
        assert (recipe.network.sep, recipe.self_loops) == (sep, not sep)
        assert (recipe.settings.learning_rate, recipe.config.num_steps) == (3e-5, 1000)
        assert recipe.config.stopping == Stopping("score")


def test_the_score_of_a_recipe_that_says_auto_goes_by_the_number_of_classes():
    recipe = RECIPES["platonov_gat"]
    assert recipe.train_config(2).score == "roc_auc"
    assert recipe.train_config(3).score == "accuracy"
    assert RECIPES["gat_paper_cora"].train_config(2).score == "accuracy"


def test_a_file_says_everything(tmp_path):
    recipe = read(tmp_path, RECIPE)
    assert recipe == Recipe(
        (LayerConfig(heads=2, channels=1, concat=False),),
        TrainConfig("adam", 40, 2, stopping=Stopping("score", 6)),
        TrainSettings(0.02, layer=LayerSettings(feature_dropout=0.3, attention_dropout=0.3)),
        features="standardised",
        source="a test",
    )
    assert read(tmp_path, '[training]\nscore = "roc_auc"\n[[layers]]\n').score == "roc_auc"
    assert read(tmp_path, 'layout = "segment"\n[[layers]]\n').layout == "segment"


def test_plain_layers_can_have_a_norm_and_blocks_options_of_layers(tmp_path):
    network = read(tmp_path, 'norm = "batch"\n[[layers]]\nchannels = 3\n[[layers]]\n').network
    assert isinstance(network, PlainConfig)
    assert network.norm == "batch"
    network = read(tmp_path, BLOCKS + 'depth = 3\nlayer = "gatv2"\nuse_bias = false\n').network
    assert (network.width, network.depth, network.layer.layer) == (8, 3, "gatv2")
    assert not network.layer.use_bias


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layers = ", "expected TOML, got an error: Invalid value"),
        ("", "recipe: expected either layers or blocks"),
        (BLOCKS + "[[layers]]\n", "recipe: expected either layers or blocks"),
        ("layers = 3", r"layers: expected tables \[\[layers\]\], one for each layer"),
        ("layers = []", r"layers: expected tables \[\[layers\]\], one for each layer"),
        ("sourse = 'x'\n[[layers]]", "recipe: expected source, features, .*, got sourse"),
        ("source = 3\n[[layers]]", "source: expected text, got 3"),
        ("features = 'big'\n[[layers]]", "features: expected one of raw, .*, got 'big'"),
        ("self_loops = 1\n[[layers]]", "self_loops: expected True or False, got 1"),
        ("layout = 'csr'\n[[layers]]", "layout: expected one of auto, .*, got 'csr'"),
        ("[[layers]]\nhead = 8", "layers: expected heads, channels, .*, got head"),
        ("[[layers]]\nheads = '8'", "heads: expected a whole number, got '8'"),
        ("[[layers]]\nheads = 0", "heads: expected at least 1, got 0"),
        ("[[layers]]\nchannels = 7", "layers: expected no channels of the last layer, got 7"),
        ("[[layers]]\nheads = 2", "layers: expected concat = false of the last layer, .* 2 heads"),
        ("[[layers]]\nlayer = 'gin'", "layer: expected one of gat, .*, got 'gin'"),
        ("norm = 'big'\n[[layers]]", "norm: expected one of .*, got 'big'"),
        ("norm = 'layer'\n" + BLOCKS, "norm: expected it in the table of blocks, got it beside"),
        (BLOCKS + "channels = 3", "blocks: expected width, heads, .*, got channels"),
        (BLOCKS + "depth = 1.5", "depth: expected a whole number, got 1.5"),
        ("[blocks]\nwidth = 9\nheads = 2", ".*expected .*9"),
        ("blocks = 3", "blocks: expected a table, got 3"),
        ("training = 3\n[[layers]]", "training: expected a table, got 3"),
        ("[[layers]]\n[training]\nsteps = 3", "training: expected optimizer, .*, got steps"),
        ("[[layers]]\n[training]\noptimizer = 'lion'", "optimizer: expected one of .* got 'lion'"),
        ("[[layers]]\n[training]\nnum_steps = '9'", "num_steps: expected a whole number, got '9'"),
        ("[[layers]]\n[training]\nscore = 'f1'", "score: expected one of auto, .*, got 'f1'"),
        ("[[layers]]\n[training]\nstopping = 3", r"training\.stopping: expected a table, got 3"),
        (
            "[[layers]]\n[training.stopping]\nwait = 3",
            r"training\.stopping: expected rule, patience, got wait",
        ),
        ("[[layers]]\n[training.stopping]\npatience = 0", "patience: expected at least 1, got 0"),
        ("[[layers]]\n[settings]\nlr = 3", "settings: expected learning_rate, .*, got lr"),
        (
            "[[layers]]\n[settings]\nlearning_rate = '1'",
            r"settings\.learning_rate: expected a number, got '1'",
        ),
        (
            "[[layers]]\n[settings]\nslope = true",
            r"settings\.slope: expected a number, got True",
        ),
        (
            "[[layers]]\n[settings]\nlearning_rate = nan",
            "learning_rate: expected a finite number of at least 0, got nan",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_file_that_is_none_is_refused_by_its_name_and_field(tmp_path, text, message):
    with pytest.raises(ValueError, match=f"^{tmp_path}/mine.toml: {message}") as refused:
        read(tmp_path, text)
    assert "\n" not in str(refused.value)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b"source = '\xfc'")
    (tmp_path / "folder.toml").mkdir()
    for name, reason in (
        ("none.toml", "no such file"),
        ("latin.toml", "codec can't decode"),
        ("folder.toml", "a directory"),
    ):
        with pytest.raises(ValueError, match=f"^recipe: expected a readable file, .*{reason}"):
            load_recipe(tmp_path / name)
    with pytest.raises(ValueError, match=r"^recipe: expected .* or a \.toml file, got 'mine'"):
        load_recipe("mine")


def test_a_recipe_made_in_python_is_checked_too(unchecked):
    for options, message in (
        ({"score": "f1"}, "score: expected one of"),
        ({"source": None}, "source: expected text, got None"),
        ({"settings": None}, "settings: expected TrainSettings, got NoneType"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            dataclasses.replace(RECIPES["tutorial"], **options)
