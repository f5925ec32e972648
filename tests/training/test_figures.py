"""Figures of a training: drawn as far as something was recorded, true to it, and safe to read."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.patches import StepPatch
from matplotlib.text import Text

from gat_jax.training import figures, panels
from gat_jax.training.observations import NUM_ENTROPY_BINS

NUM_SEEDS, STEPS, NUM_LAYERS, NUM_HEADS = 6, np.arange(0, 110, 10), 2, 3
NAMES = ("heads=1, slope=0.2", "heads=3, slope=0.2")


def make_dataset(names: tuple[str, ...] = NAMES) -> xr.Dataset:
    """A summary: every run begins with equal twins, and run s leaves that state at record s + 1."""
    number, seeds = len(names), np.arange(NUM_SEEDS)
    by_step = (number, NUM_SEEDS, len(STEPS), NUM_LAYERS)
    equal = np.arange(len(STEPS))[None] <= seeds[:, None]  # [seeds, steps]
    fall = np.linspace(1.0, 0.5, len(STEPS))[None, None, :, None]
    histogram = np.zeros((*by_step, NUM_HEADS, NUM_ENTROPY_BINS))
    histogram[:, :, 0, ..., -1] = 1.0
    histogram[:, :, 1:, ..., 10] = 1.0
    histogram[0, :, :, :, 1:] = np.nan  # the first setting has one head
    accuracy = 0.7 + 0.01 * seeds[None] + 0.1 * np.arange(number)[:, None]
    layered = ("setting", "seed", "step", "layer")
    return xr.Dataset(
        {
            "num_runs": ("setting", np.full(number, NUM_SEEDS)),
            **{
                name: (("setting", "seed"), accuracy)
                for name in ("test_accuracy", "test_score", "validation_score", "train_score")
            },
            "contested_accuracy": (("setting", "seed"), np.full((number, NUM_SEEDS), np.nan)),
            "other_accuracy": (("setting", "seed"), accuracy),
            "kept_step": (("setting", "seed"), np.full((number, NUM_SEEDS), STEPS[-1] - 5.0)),
            "num_steps": (("setting", "seed"), np.full((number, NUM_SEEDS), STEPS[-1] * 1.0)),
            "status": (("setting", "seed"), np.full((number, NUM_SEEDS), -1.0)),
            "entropy": (layered, np.broadcast_to(fall, by_step).copy()),
            "twin_equal_share": (
                layered,
                np.broadcast_to(equal[None, :, :, None], by_step).astype(float),
            ),
            "collided": (layered, np.full(by_step, 0.25)),
            "entropy_histogram": ((*layered, "head", "entropy_bin"), histogram),
            "kept_entropy_histogram": (
                ("setting", "seed", "layer", "head", "entropy_bin"),
                histogram[:, :, -1].copy(),
            ),
            "effective_rank": (layered, 2 + np.broadcast_to(fall, by_step)),
            "dirichlet_energy": (layered, 10 * np.broadcast_to(fall, by_step)),
        },
        {"setting": list(names), "seed": seeds, "step": STEPS},
        {"data": "a_graph", "recipe": "a_recipe", "seconds": 1234.5, "device": "a device"},
    )


def texts(name: str, dataset: xr.Dataset) -> list[str]:
    figure = figures.FIGURES[name](dataset, "light")
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def title(name: str, dataset: xr.Dataset) -> str:
    return " ".join(figures.FIGURES[name](dataset, "light").get_suptitle().split())


def curve(name: str, dataset: xr.Dataset, layer: int = 0, number: int = 0) -> np.ndarray:
    """Steps and heights of one curve, [2, points]."""
    lines = figures.FIGURES[name](dataset, "light").axes[layer].lines
    return np.array(lines[number].get_data(), float)


def test_every_figure_is_drawn_for_both_themes():
    dataset = make_dataset()
    assert figures.drawable(dataset) == list(figures.FIGURES)
    for name in figures.FIGURES:
        light, dark = figures.draw(name, dataset)
        assert light.png.startswith(b"\x89PNG"), name
        assert light.png != dark.png
        assert light[1:] == dark[1:]
        assert light.title == title(name, dataset)


@pytest.mark.parametrize(
    ("missing", "figure"),
    [
        ("test_accuracy", "accuracy"),
        ("entropy", "entropy"),
        ("kept_entropy_histogram", "entropy_histogram"),
        ("effective_rank", "rank"),
        ("dirichlet_energy", "energy"),
    ],
)
def test_what_was_not_recorded_is_not_drawn(missing, figure):
    rest = [name for name in figures.FIGURES if name != figure]
    assert figures.drawable(make_dataset().drop_vars(missing)) == rest
    dataset = make_dataset()
    dataset[missing][:] = np.nan
    assert figures.drawable(dataset) == rest


def test_no_twins_no_figure_of_them():
    dataset = make_dataset()
    dataset["twin_equal_share"][:] = np.nan
    assert not {"twins", "survival"} & set(figures.drawable(dataset))
    dataset["twin_equal_share"][:] = 0.5  # no run has all pairs equal
    assert "twins" in figures.drawable(dataset)
    assert "survival" not in figures.drawable(dataset)


def test_accuracy_shows_every_seed_and_the_mean_of_a_setting():
    dataset = make_dataset()
    (ax,) = figures.accuracy(dataset, "light").axes
    dots, diamond = (np.array(line.get_xdata(), float) for line in ax.lines[:2])
    np.testing.assert_allclose(dots, 0.7 + 0.01 * np.arange(NUM_SEEDS))
    np.testing.assert_allclose(diamond, 0.725)
    found = texts("accuracy", dataset)
    assert "heads=1: 72.5%, 70.5% to 74.5%" in found
    assert title("accuracy", dataset) == (
        "Test accuracy of 2 settings: 72% to 82% in the mean of 6 seeds"
    )
    one = dataset.isel(setting=[0])
    assert title("accuracy", one) == "Test accuracy is 72.5% in the mean of 6 seeds"
    assert "heads=1, slope=0.2: 72.5%, 70.5% to 74.5%" in texts("accuracy", one)


def test_equal_accuracies_are_seen_apart():
    heights = figures._spread(np.array([0.5, 0.7, 0.5, 0.5]))
    assert len(set(heights[[0, 2, 3]])) == 3
    assert heights[1] == 0.0


def test_a_single_seed_has_no_interval():
    dataset = make_dataset().isel(seed=[0])
    assert "heads=1: 70.0%" in texts("accuracy", dataset)
    for name in figures.drawable(dataset):
        assert not [text for text in texts(name, dataset) if "nan" in text.lower()], name


def test_runs_that_are_all_alike_have_no_interval():
    dataset = make_dataset().isel(setting=[0])
    dataset["test_accuracy"][:] = 1.0
    assert "heads=1, slope=0.2: 100%" in texts("accuracy", dataset)


def test_entropy_is_the_mean_over_seeds_beside_that_of_uniform():
    dataset = make_dataset()
    dataset["entropy"][0, :3] = 0.2
    steps, heights = curve("entropy", dataset)
    np.testing.assert_array_equal(steps, STEPS)
    np.testing.assert_allclose(heights, 0.1 + np.linspace(1.0, 0.5, len(STEPS)) / 2)
    figure = figures.entropy(dataset, "light")
    for ax in figure.axes:
        np.testing.assert_array_equal(ax.lines[-1].get_ydata(), [1.0, 1.0])
    assert [ax.get_title() for ax in figure.axes] == ["Layer 1", "Layer 2"]
    assert title("entropy", dataset) == (
        "Attention entropy is 35% to 50% of uniform attention's after training"
    )


def test_curves_end_where_most_runs_have_stopped():
    dataset = make_dataset()
    dataset["entropy"][:, :4, 6:] = np.nan
    steps, _ = curve("entropy", dataset)
    np.testing.assert_array_equal(steps, STEPS[:6])
    missing = make_dataset()
    missing["entropy"][:, 2:] = np.nan  # runs that are not made yet are none that have stopped
    np.testing.assert_array_equal(curve("entropy", missing)[0], STEPS)
    # The last number of a run counts at the end, whenever that was.
    expected = (4 * 0.75 + 2 * 0.5) / 6
    np.testing.assert_allclose(panels.last(dataset["entropy"][0]), expected)


def test_twins_have_the_interval_of_shares():
    dataset = make_dataset()
    _, heights = curve("twins", dataset)
    np.testing.assert_allclose(heights, np.clip(1 - np.arange(len(STEPS)) / NUM_SEEDS, 0, 1))
    _, low, high = figures._share_interval(np.array([[1.0, 0.25, 1.0], [1.0, 0.75, 0.0]]))
    np.testing.assert_allclose([low[0], high[0]], [0.025**0.5, 1.0])  # Clopper and Pearson
    np.testing.assert_allclose([low[1], high[1]], 0.5 + 1.96 * 0.25 / 2**0.5 * np.array([-1, 1]))
    np.testing.assert_allclose([low[2], high[2]], [1 - 0.975**0.5, 0.975**0.5])  # of one pair
    assert title("twins", dataset) == (
        "Pairs of twins that are equal: 100% before training, 0% after it"
    )


def test_twins_are_those_compared_where_all_were_not_recorded():
    _, heights = curve("twins", make_dataset().drop_vars("twin_equal_share"))
    np.testing.assert_array_equal(heights, 0.25)


def test_survival_is_of_first_exits():
    dataset = make_dataset().isel(setting=[0], layer=[0])
    steps, heights = curve("survival", dataset)
    np.testing.assert_array_equal(steps, [0, *STEPS[1 : NUM_SEEDS + 1]])
    np.testing.assert_allclose(heights, 1 - np.arange(NUM_SEEDS + 1) / NUM_SEEDS)
    assert title("survival", dataset) == "Of 6 runs that began with equal twins, 6 left that state"


def test_a_run_that_stopped_is_censored_and_no_exit():
    dataset = make_dataset().isel(setting=[0], layer=[0])
    dataset["twin_equal_share"][:] = 1.0
    dataset["twin_equal_share"][:, :5, 3:] = np.nan
    dataset["twin_equal_share"][:, 5, 8:] = 0.0
    assert title("survival", dataset) == "Of 6 runs that began with equal twins, 1 left that state"
    steps, heights = curve("survival", dataset)
    np.testing.assert_array_equal(steps, [0, STEPS[2], STEPS[8]])
    np.testing.assert_allclose(heights, [1, 1, 0])


def bars(dataset: xr.Dataset) -> list[np.ndarray]:
    """Heights of all histograms of the first layer: before, one for each head, their mean."""
    ax = figures.entropy_histogram(dataset, "light").axes[0]
    return [np.asarray(x.get_data()[0]) for x in ax.patches if isinstance(x, StepPatch)]


def test_histogram_is_of_the_state_that_is_kept():
    dataset = make_dataset()
    before, *heads, mean = bars(dataset)
    assert len(heads) == NUM_HEADS  # the second setting is the better one
    np.testing.assert_array_equal(np.flatnonzero(before), [NUM_ENTROPY_BINS - 1])
    for head in (*heads, mean):
        np.testing.assert_array_equal(np.flatnonzero(head), [10])
    assert len(bars(make_dataset().isel(setting=[0]))) == 3  # of one head
    assert len(bars(dataset.drop_vars("entropy_histogram"))) == NUM_HEADS + 1  # none before
    dataset["entropy_histogram"][:] = np.nan
    assert len(bars(dataset)) == NUM_HEADS + 1


def test_of_many_settings_the_best_by_validation_are_drawn():
    dataset = make_dataset(tuple(f"heads={k}, slope=0.2" for k in range(7)))
    dataset["validation_score"][1] = 2.0
    dataset["num_runs"][6] = 0  # has no runs yet
    figure = figures.entropy(dataset, "light")
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["heads=1", "heads=3", "heads=4", "heads=5"]


def test_many_layers_and_settings_are_cut():
    dataset = make_dataset().isel(layer=[0] * 9)
    axes = figures.rank(dataset, "light").axes
    assert [ax.get_title() for ax in axes] == [f"Layer {k}" for k in (1, 3, 4, 6, 7, 9)]
    dataset = make_dataset(tuple(f"heads={k}" for k in range(45)))
    assert "(the first 40)" in title("accuracy", dataset)


@pytest.mark.parametrize("name", figures.FIGURES)
def test_names_are_drawn_as_they_are(name):
    hostile = make_dataset(("$\\frac{$, a", "\x1b[31m_\\frac{, 图"))
    found = texts(name, hostile)
    assert not [text for text in found if "\x1b" in text or "nan" in text.lower()]
    figures.draw(name, hostile)  # and no warning, which would be an error


def test_what_diverged_leaves_the_others(recwarn):
    dataset = make_dataset()
    for name in ("entropy", "twin_equal_share", "effective_rank", "dirichlet_energy"):
        dataset[name][0] = np.nan
    dataset["test_accuracy"][0, :3] = np.nan
    dataset["entropy_histogram"][0] = dataset["kept_entropy_histogram"][0] = np.nan
    for name in figures.drawable(dataset):
        assert not [text for text in texts(name, dataset) if "nan" in text.lower()], name
    assert not recwarn.list
