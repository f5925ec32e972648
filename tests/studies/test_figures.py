"""Figures: titles follow from the numbers, nothing breaks on what is missing."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.text import Text

from gat_jax.report.style import PALETTES
from gat_jax.runtime.stats import binomial_interval
from gat_jax.studies import figures

NUM_INITS, NUM_RUNS, NUM_STEPS, NUM_ARTICLE_STEPS = 1000, 40, 50, 120
SHARES = {
    **{"gcn": 1.0, "gat.h1": 0.8, "gat.h2": 0.64, "gat.h4": 0.41, "gat.h8": 0.168},
    **{"gat.h1.standardised": 0.4, "gat.h1.residual": 0.8, "gat.gaussian": 0.81},
    **{"gatv2.h1.c1": 0.82, "gatv2.h1.c2": 0.6, "gatv2.h1.c4": 0.4, "gatv2.h1.c8": 0.2},
}
STAY, LEAVE, RETURN = "stay", "leave", "return"


def make_dataset(
    shares: dict[str, float] | None = None,
    *,
    residual: float = 0.0,
    twins: str = RETURN,
    final_entropy: float = 0.4,
) -> xr.Dataset:
    """A dataset of a study's schema: half of the runs begin equal, and do what `twins` says."""
    found = SHARES | (shares or {})
    collisions = np.array([round(NUM_INITS * found[name]) for name in sorted(found)])
    equal = np.where([n == "gat.h1.residual" for n in sorted(found)], residual, 1.0) * collisions
    steps, article_steps = np.arange(NUM_STEPS + 1), np.arange(NUM_ARTICLE_STEPS + 1)
    began = np.arange(NUM_RUNS) < NUM_RUNS // 2
    is_collided = {
        STAY: began[:, None] & (steps >= 0),
        LEAVE: began[:, None] & (steps < 3),
        RETURN: began[:, None] & ((steps < 3) | (steps > 9)),
    }[twins]
    counts = is_collided.sum(axis=0)
    survival = np.minimum.accumulate(counts / counts[0])
    entropy = np.linspace(1.0, final_entropy, len(steps), dtype=np.float32)
    lines = {
        "train_collided_share": counts / NUM_RUNS,
        "train_twin_entropy": entropy,
        "train_entropy_escaped": (entropy < 0.99).astype(np.float32),
        "train_survival": survival,
    }
    bounds = {
        "train_collided_interval": np.stack(binomial_interval(counts, NUM_RUNS), axis=1),
        "train_survival_interval": np.stack([0.9 * survival, survival], axis=1),
    }
    train = xr.Dataset(
        {"train_is_collided": (("run", "step"), is_collided)}
        | {name: ("step", values) for name, values in lines.items()}
        | {name: (("step", "bound"), values) for name, values in bounds.items()},
        coords={"step": steps, "bound": ["low", "high"]},
    )
    train = train.expand_dims(optimizer=["adam", "sgd"], heads=[1, 4]).copy(deep=True)
    init = xr.Dataset(
        {
            "init_num_inits": ("setting", np.full(len(found), NUM_INITS)),
            "init_collisions": ("setting", collisions),
            "init_equal_outputs": ("setting", equal.astype(int)),
            "init_collision_probability": ("setting", collisions / NUM_INITS),
            "init_collision_interval": (
                ("setting", "bound"),
                np.stack(binomial_interval(collisions, NUM_INITS), axis=1),
            ),
        },
        coords={"setting": sorted(found)},
    )
    article = xr.Dataset(
        {
            "article_is_collided": ("article_step", article_steps < 77),
            "article_twin_entropy": ("article_step", np.linspace(1, 0.5, len(article_steps))),
        },
        coords={"article_step": article_steps},
    ).expand_dims(optimizer=["adam", "sgd"])
    return xr.merge([train, init, article, make_graphs()], join="exact")


def make_graphs() -> xr.Dataset:
    """Two graphs: one with closed twins and labels, one with a single open pair and neither."""
    by_loops = {
        **{"graph_num_nodes": [[34, 34], [9, 9]], "graph_num_edges": [[156, 190], [20, 29]]},
        **{"graph_pairs": [[0, 12], [1, 0]], "graph_nodes": [[0, 7], [2, 0]]},
        **{"graph_trivial_pairs": [[3, 0], [0, 0]], "graph_trivial_nodes": [[3, 0], [0, 0]]},
        "graph_loss_floor": [[0.25, 0.125], [np.nan, np.nan]],
        "graph_unavoidable_loss_floor": [[0.25, 0.0], [np.nan, np.nan]],
    }
    nothing = [np.nan, np.nan]
    return xr.Dataset(
        {name: (("graph", "loops"), np.array(values)) for name, values in by_loops.items()}
        | {
            "graph_collision_share": (
                ("graph", "loops", "graph_heads"),
                np.array([[nothing, [0.384, 0.0005]], [[0.25, 0.0], nothing]]),
            )
        },
        coords={
            "graph": ["big_graph", "small"],
            "loops": ["without", "with"],
            "graph_heads": [1, 8],
        },
    )


def title(name: str, dataset: xr.Dataset) -> str:
    return " ".join(figures.FIGURES[name](dataset, "light").get_suptitle().split())


def texts(name: str, dataset: xr.Dataset) -> list[str]:
    figure = figures.FIGURES[name](dataset, "light")
    figure.draw_without_rendering()
    return [t.get_text() for t in figure.findobj(Text)]


@pytest.mark.parametrize(
    ("name", "first", "says_first", "second", "says_second"),
    [
        (
            "collision_by_heads",
            {},
            "Heads help, as if independent",
            {"shares": {"gat.h8": 0.9}},
            "More heads do not help",
        ),
        (
            "collision_by_heads",
            {"shares": {"gat.h8": 0.5}},
            "less than if independent: twins are equal in 80.0% of initialisations with 1 head, "
            "in 50.0% with 8",
            {"shares": {"gat.h8": 0.05}},
            "more than if independent",
        ),
        (
            "training",
            {},
            "does not stay uniform, but twins can stay equal: 50% of runs",
            {"twins": LEAVE},
            "does not stay uniform, and twins do not stay equal: 0% of runs",
        ),
        (
            "training",
            {"final_entropy": 1.0},
            "can stay uniform, and twins can stay equal",
            {"final_entropy": 1.0, "twins": LEAVE},
            "can stay uniform, but twins do not stay equal",
        ),
        (
            "survival",
            {},
            "not for good: of the runs that began equal, 0% never left, 100% are equal after 50",
            {"twins": LEAVE},
            "stay apart: of the runs that began equal, 0% never left, 0% are equal",
        ),
        ("survival", {"twins": STAY}, "Few runs leave", {"twins": RETURN}, "not for good"),
        (
            "remedies",
            {},
            "helps most is GAT with a residual path: twins are equal in 0% of initialisations "
            "instead of 80.0%",
            {"residual": 1.0},
            "helps most is GAT with 8 heads: twins are equal in 16.8%",
        ),
    ],
)
def test_titles_follow_from_the_numbers(name, first, says_first, second, says_second):
    assert says_first in title(name, make_dataset(**first))
    assert says_second in title(name, make_dataset(**second))


def test_remedies_title_says_when_nothing_helps():
    dataset = make_dataset(dict.fromkeys(SHARES, 0.9), residual=1.0)
    assert "Nothing here helps" in title("remedies", dataset)


def test_remedies_are_sorted_and_labelled_with_their_shares():
    figure = figures.remedies(make_dataset(), "light")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[0] == "GCN (no attention)"
    assert labels[-2:] == ["GAT with 8 heads", "GAT with a residual path"]
    notes = [note.get_text() for note in figure.axes[0].texts]
    assert notes[0] == "100%"
    assert notes[-2:] == ["16.8%", "0%"]


@pytest.mark.parametrize("name", figures.FIGURES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_are_in_the_colours_of_their_theme(name, theme):
    figure = figures.FIGURES[name](make_dataset(), theme)
    palette = PALETTES[theme]
    assert figure.get_facecolor()[:3] == pytest.approx(_rgb(palette.background), abs=1e-3)
    for ax in figure.axes:
        assert ax.get_facecolor()[:3] == pytest.approx(_rgb(palette.background), abs=1e-3)
        assert ax.xaxis.label.get_color() == palette.text


def _rgb(color: str) -> list[float]:
    return [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def test_training_axes_show_all_steps_and_shares():
    axes = figures.training(make_dataset(), "light").axes
    assert len(axes) == 6  # two optimisers, the article's start and two numbers of heads
    for ax in axes:
        assert ax.get_xlim() == (0, NUM_ARTICLE_STEPS)
        low, high = ax.get_ylim()
        assert low < 0
        assert high > 1


def test_training_says_how_long_the_twins_are_equal():
    assert texts("training", make_dataset()).count("equal at 77\nof 121 steps") == 2


def test_training_draws_the_optimizer_it_names():
    dataset = make_dataset()
    dataset["train_collided_share"].loc[{"optimizer": "sgd", "heads": 4}] = 0.123
    axes = figures.training(dataset, "light").axes
    assert [ax.get_title() for ax in axes[:2]] == ["SGD", "Adam"]
    assert [ax.lines[0].get_ydata()[-1] for ax in axes[2:]] == [0.5, 0.5, 0.123, 0.5]


def test_collision_axes_hold_every_interval():
    dataset = make_dataset({"gat.h8": 0.0})
    ax = figures.collision_by_heads(dataset, "light").axes[0]
    high = dataset["init_collision_interval"].sel(setting="gat.h8", bound="high")
    bottom, top = ax.get_ylim()
    assert 0 < bottom < high
    assert top > 1


def test_survival_runs_from_all_to_the_share_that_never_left():
    dataset = make_dataset(twins=RETURN)
    ax = figures.survival(dataset, "light").axes[0]
    never_left, now = (line.get_ydata() for line in ax.lines[:2])
    assert (never_left[0], never_left[-1]) == (1, 0)
    assert (now[0], now[5], now[-1]) == (1, 0, 1)
    assert "1 head: 100%\nequal now" in texts("survival", dataset)


def test_survival_says_where_no_run_began_equal():
    dataset = make_dataset()
    chosen = {"optimizer": "sgd", "heads": 4}
    dataset["train_is_collided"].loc[chosen] = False
    dataset["train_survival"].loc[chosen] = np.nan
    dataset["train_survival_interval"].loc[chosen] = np.nan
    found = texts("survival", dataset)
    assert "4 heads: no run\nbegan equal" in found
    assert not any("nan" in text.lower() for text in found)
    dataset["train_is_collided"][:] = False
    dataset["train_survival"][:] = np.nan
    assert title("survival", dataset) == "No run began with equal twins"


@pytest.mark.parametrize("name", figures.FIGURES)
def test_no_text_is_nan_or_none(name):
    dataset = make_dataset().drop_dims("graph")
    dataset["train_twin_entropy"].loc[{"optimizer": "adam", "heads": 1}] = np.nan
    found = texts(name, dataset)
    assert not [text for text in found if "nan" in text.lower() or "none" in text.lower()]


def test_draw_makes_a_light_and_a_dark_picture():
    light, dark = figures.draw("remedies", make_dataset())
    assert light.png.startswith(b"\x89PNG")
    assert light.png != dark.png
    assert light[1:] == dark[1:]
    assert light.title == title("remedies", make_dataset())
    assert light.width == 490
