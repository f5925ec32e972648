import numpy as np
import pytest
import xarray as xr
from sweep_runs import signs_spec

from gat_jax.layers import LayerConfig
from gat_jax.runtime.blocks import Blocks
from gat_jax.runtime.stats import binomial_interval
from gat_jax.sampling import Cell, sample
from gat_jax.studies import tutorial_init
from gat_jax.sweeps import (
    SweepSpec,
    load_blocks,
    load_raw,
    prepare,
    records,
    run_sweep,
    summarise,
    to_table,
    write_csv,
)


def test_the_summary_is_labelled_and_agrees_with_sampling(tmp_path):
    spec = SweepSpec(layer=("gat", "gcn"), heads=(1, 2), num_inits=50_000, seed=3)
    run_sweep(spec, tmp_path / "sweep.zarr")
    dataset = xr.open_zarr(tmp_path / "sweep.zarr")
    assert dataset.collisions.dims == (
        *("graph", "layer", "heads", "channels", "initializer", "features", "slope"),
    )
    cell = dataset.sel(layer="gat", heads=2).squeeze()
    graph, pairs = tutorial_init.tutorial_twins()
    layer = LayerConfig(heads=2, initializer="tutorial")
    counts = sample(Cell("tutorial", layer), graph, pairs, num_inits=50_000, seed=3)
    assert cell.num_inits == 50_000
    assert cell.collisions == counts.collisions
    assert cell.collision_probability == counts.collisions / 50_000
    low, high = binomial_interval(counts.collisions, 50_000)
    assert cell.interval.values.tolist() == [low, high]
    np.testing.assert_array_equal(cell.head_collisions_by_cause, counts.head_causes)
    np.testing.assert_array_equal(cell.pair_collisions_by_cause, counts.head_causes.sum(axis=0))
    np.testing.assert_array_equal(cell.entropy_histogram, counts.entropy_histogram)
    np.testing.assert_array_equal(cell.gap_histogram, counts.gap_histogram)
    rows = counts.entropy_histogram.sum()
    assert float(cell.entropy_mean) == pytest.approx(1.0 - counts.deficit_sum / rows)
    variance = counts.deficit_squares / rows - (counts.deficit_sum / rows) ** 2
    assert float(cell.entropy_variance) == pytest.approx(variance)
    missing = dataset.sel(layer="gcn", heads=2).squeeze()
    assert missing.num_inits == 0
    assert np.isnan(missing.collision_probability)
    assert dataset.attrs["schema"] == records.SCHEMA
    assert {"spec", "device", "version_jax", "commit"} <= set(dataset.attrs)
    assert float(dataset.sel(layer="gcn", heads=1).collision_probability.squeeze()) == 1.0


def test_several_pairs_have_an_interval_of_their_own(tmp_path):
    spec = signs_spec(graph=("karate_club",), num_inits=20_000)
    cell = run_sweep(spec, tmp_path / "karate.zarr").squeeze()
    assert int(cell.num_pairs) == 11
    probability = float(cell.collision_probability)
    assert probability == int(cell.collisions) / (11 * 20_000)
    low, high = cell.interval.values
    # Pairs of one initialisation go together, so it is wider than that of independent pairs.
    naive = binomial_interval(int(cell.collisions), 11 * 20_000)
    assert low < probability < high
    assert high - low > 1.3 * float(naive[1] - naive[0])
    assert "entropy_histogram" not in cell


@pytest.mark.slow
def test_raw_values_of_every_initialisation_are_kept(tmp_path):
    path = tmp_path / "raw.zarr"
    spec = SweepSpec(keep="raw", block_size=131072, num_inits=150_000, heads=(1, 2))
    summary = run_sweep(spec, path).sel(heads=1).squeeze()
    raw = load_raw(path, heads=1)
    assert raw.sizes == {"init": 150_000}
    np.testing.assert_array_equal(raw.init, np.arange(150_000))
    assert int(raw.collided_pairs.sum()) == int(summary.collisions)
    assert int((raw.largest_gap == 0).sum()) == int(summary.equal_outputs)
    assert float(raw.mean_entropy.mean()) == pytest.approx(float(summary.entropy_mean), rel=1e-5)
    with pytest.raises(ValueError, match="labels: expected to name one cell, got 2"):
        load_raw(path)


def test_cells_without_a_block_count_nothing_and_have_no_number(tmp_path):
    cells = prepare(signs_spec(heads=(1, 2)))
    blocks = Blocks(tmp_path, schema=records.SCHEMA)
    dataset = summarise(cells, blocks, {"commit": "unknown"})
    assert dataset.num_inits.values.ravel().tolist() == [0, 0]
    assert np.isnan(dataset.collision_probability).all()
    assert np.isnan(dataset.interval).all()
    assert not dataset.is_complete.any()
    assert dataset.attrs["commit"] == "unknown"


def test_the_table_has_a_row_for_each_cell_that_exists(tmp_path):
    spec = signs_spec(layer=("gat", "gcn"), heads=(1, 2), num_inits=20_000)
    dataset = run_sweep(spec, tmp_path / "sweep.zarr")
    rows = to_table(dataset)
    assert [(row["layer"], row["heads"]) for row in rows] == [("gat", 1), ("gat", 2), ("gcn", 1)]
    cell = dataset.sel(layer="gat", heads=2).squeeze()
    assert rows[1]["collisions"] == int(cell.collisions)
    assert rows[1]["interval_high"] == float(cell.interval.sel(bound="high"))
    causes = {f"pair_collisions_by_cause.{x}" for x in dataset.cause.values}
    assert sum(rows[1][name] for name in causes) == 2 * 20_000  # of every head
    write_csv(dataset, tmp_path / "summary.csv")
    header, *lines = (tmp_path / "summary.csv").read_text().splitlines()
    assert header.split(",") == list(rows[0])
    assert len(lines) == 3


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(ValueError, match="store: expected a sweep's store, got"):
        load_blocks(tmp_path)
    Blocks(tmp_path, schema=records.SCHEMA)
    with pytest.raises(ValueError, match="store: expected a sweep's store, got one without a spec"):
        load_blocks(tmp_path)


def test_raw_values_are_not_of_a_summary_or_of_nothing(tmp_path):
    path = tmp_path / "sweep.zarr"
    run_sweep(signs_spec(num_inits=1000), path)
    with pytest.raises(ValueError, match="store: expected one made with keep = raw, got summary"):
        load_raw(path)
    cells = prepare(signs_spec(keep="raw"))
    (tmp_path / "new").mkdir()
    Blocks(tmp_path / "new", schema=records.SCHEMA).set_header(cells.header.to_json())
    with pytest.raises(ValueError, match="store: expected finished blocks of tutorial"):
        load_raw(tmp_path / "new")


def test_a_damaged_block_is_told_and_counts_as_missing(tmp_path):
    cells = prepare(signs_spec())
    (entry,) = cells.entries
    blocks = Blocks(tmp_path, schema=records.SCHEMA)
    fields = records.fields_of(entry.num_heads)
    for block in range(2):
        counts = records.from_record(np.zeros(fields[-1].stop), fields)
        counts = counts._replace(num_inits=np.array(entry.inits_of(block)))
        records.write_block(blocks, entry, block, counts, {})
    (file,) = blocks.path.glob("*/record/c/1/0")
    file.write_bytes(b"")
    told = []
    dataset = summarise(cells, blocks, {}, on_damage=told.append)
    assert int(dataset.num_inits.squeeze()) == entry.block_size
    (message,) = told
    assert message.startswith(f"damaged block {file}")
