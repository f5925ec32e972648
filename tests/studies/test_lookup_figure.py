"""The figure of DictionaryLookup: its title follows from the numbers, and seeds are all drawn."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from gat_jax.report.style import PALETTES
from gat_jax.studies import lookup_figure
from gat_jax.studies.lookup import LookupRuns

STEPS = np.array([0, 50, 100], np.int32)


def some_runs(gat=(0.1, 0.25), gatv2=(1.0, 0.8, 1.0)) -> dict[str, LookupRuns]:
    """Runs that rise in a straight line from 10% to these shares."""

    def to(ends) -> LookupRuns:
        accuracy = np.linspace(0.1, ends, 3, axis=1)
        return LookupRuns(STEPS, accuracy, 1.0 - accuracy, np.array(ends))

    return {"gat": to(gat), "gatv2": to(gatv2)}


def test_the_title_says_who_answers_every_query():
    assert lookup_figure.lookup_title(some_runs(), 0.29) == (
        "GATv2 answers every query from 2 of 3 seeds; GAT answers 10% to 25%, and one ranking "
        "read as it is 29%"
    )
    alone = lookup_figure.lookup_title(some_runs((0.4,), (0.9999,)), 0.29)
    assert "from 0 of 1 seed; GAT answers 40%, and" in alone


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_seed_the_medians_and_the_ceiling_are_drawn(theme):
    figure = lookup_figure.lookup_accuracy(some_runs(), 0.29, theme)
    (ax,), colors = figure.axes, PALETTES[theme]
    assert to_hex(figure.get_facecolor()) == colors.background
    *_, ceiling = ax.lines
    np.testing.assert_array_equal(ceiling.get_ydata(), 0.29)
    ends = [float(np.asarray(line.get_ydata())[-1]) for line in ax.lines[:-1]]
    np.testing.assert_allclose(ends, [0.1, 0.25, 0.175, 1.0, 0.8, 1.0, 1.0])
    words = [text.get_text() for text in ax.texts]
    assert "GAT\nmedian\n17.5%" in words
    assert "GATv2\nmedian\n100%" in words
    assert any("29.0%" in text for text in words)


def test_draw_gives_both_themes():
    light, dark = lookup_figure.draw(some_runs(), 0.29)
    assert light.png[:4] == dark.png[:4] == b"\x89PNG"
    assert light.png != dark.png
    assert "2 of 3 seeds" in light.title
