import numpy as np
import pytest
import xarray as xr

from gat_jax.runtime.blocks import Blocks
from gat_jax.sampling import Counts
from gat_jax.sweeps import SweepSpec, figures, prepare, records, summarise


@pytest.fixture
def summary(tmp_path) -> xr.Dataset:
    """Two cells of three, of 100 initialisations each, with histograms."""
    spec = SweepSpec(heads=(1, 2, 4), num_inits=100)
    cells, blocks = prepare(spec), Blocks(tmp_path, schema=records.SCHEMA)
    for entry, collisions in zip(cells.entries, (75, 50), strict=False):
        fields = records.fields_of(entry.num_heads)
        counts = records.from_record(np.ones(fields[-1].stop), fields)
        counts: Counts = counts._replace(num_inits=np.array(100), collisions=np.array(collisions))
        records.write_block(blocks, entry, 0, counts, {})
    return summarise(cells, blocks, {})


def test_collisions_shows_the_cells_that_have_numbers(summary):
    (ax,) = figures.collisions(summary, list(SweepSpec().axes)).axes
    assert [x.get_text() for x in ax.get_yticklabels()] == ["heads 1", "heads 2"]
    assert [x.get_text() for x in ax.texts] == ["0.7500", "0.5000"]


def test_names_of_graphs_are_drawn_as_they_are(tmp_path, summary):
    names = ["g$x$_$.npz", r"_\frac{.npz", "图\n[red].npz"]
    renamed = summary.isel(heads=[0, 1, 1]).rename(graph="old", heads="graph")
    renamed = renamed.assign_coords(graph=names).rename(old="heads").assign_coords(heads=[1])
    axes = [axis for axis in SweepSpec().axes if axis in renamed.dims]
    renamed = renamed.transpose(*axes, ...)
    shown = ["g$x$_$.npz", r"graph _\frac{.npz", r"图\n[red].npz"]
    (ax,) = figures.collisions(renamed, axes).axes
    assert [x.get_text() for x in ax.get_yticklabels()] == shown
    top, _ = figures.histograms(renamed, axes).axes
    assert [x.get_text() for x in top.get_legend().get_texts()] == shown
    for name in ("collisions.png", "histograms.png"):  # and no warning, which would be an error
        figures.save_figure(name, renamed, tmp_path / "any.png")


def test_histograms_show_shares(summary):
    top, bottom = figures.histograms(summary, list(SweepSpec().axes)).axes
    assert [line.get_label() for line in top.lines] == ["heads 1", "heads 2"]
    heights = top.lines[0].get_ydata()
    np.testing.assert_allclose(heights, np.linspace(0, 1, 51))
    assert bottom.get_legend().get_texts()[0].get_text() == "heads 1: 2.0% exactly 0, 3.9% outside"


@pytest.mark.parametrize("name", ["collisions.png", "histograms.png"])
def test_a_figure_is_written_by_its_name(tmp_path, summary, name):
    figures.save_figure(name, summary, tmp_path / "any.png")
    assert (tmp_path / "any.png").read_bytes()[:4] == b"\x89PNG"
