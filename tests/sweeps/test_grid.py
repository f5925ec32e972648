import dataclasses

import numpy as np
import pytest
from sweep_runs import save_twins

from gat_jax.graphs import datasets
from gat_jax.sweeps import SweepSpec, prepare
from gat_jax.sweeps.header import check_enlarges


def test_gcn_has_one_head_and_every_other_cell_exists():
    cells = prepare(SweepSpec(layer=("gat", "gcn"), heads=(1, 2), slope=(0.2, 0.5)))
    found = [(x.labels["layer"], x.labels["heads"], x.labels["slope"]) for x in cells.entries]
    assert found == [
        *[("gat", heads, slope) for heads in (1, 2) for slope in (0.2, 0.5)],
        *[("gcn", 1, slope) for slope in (0.2, 0.5)],
    ]
    assert [entry.num_heads for entry in cells.entries] == [1, 1, 2, 2, 1, 1]
    assert len({entry.key for entry in cells.entries}) == 6


def test_blocks_are_whole_tiles_and_hold_every_initialisation():
    cells = prepare(SweepSpec(num_inits=300_000, block_size=140_000))
    (entry,) = cells.entries
    tile_size = cells.prepared[entry.key].shape.tile_size
    assert entry.block_size == 140_000 // tile_size * tile_size
    sizes = [entry.inits_of(block) for block in range(entry.num_blocks)]
    assert sum(sizes) == 300_000
    assert set(sizes[:-1]) == {entry.block_size}
    # A block of fewer initialisations than a tile has is one tile all the same.
    (entry,) = prepare(SweepSpec(block_size=1)).entries
    assert entry.block_size == tile_size


def test_cells_know_the_twins_of_their_graphs():
    club, tutorial = prepare(SweepSpec(graph=("karate_club", "tutorial"))).entries
    assert (club.num_pairs, club.num_classes) == (11, 2)
    assert (tutorial.num_pairs, tutorial.num_classes) == (1, 1)
    assert (club.num_compared_pairs, tutorial.num_compared_pairs) == (11, 1)


def test_pairs_of_large_classes_are_not_listed(tmp_path):
    save_twins(tmp_path / "g.npz", twins=60_000)
    (entry,) = (cells := prepare(SweepSpec(graph=(str(tmp_path / "g.npz"),)))).entries
    assert entry.num_pairs == 60_000 * 59_999 // 2 + 1
    assert (entry.num_classes, entry.num_compared_pairs) == (2, 1024)
    layout = cells.prepared[entry.key].shape.layout
    assert len(layout.pairs) == 1024
    too_many = dataclasses.replace(cells.spec, num_inits=2**32)
    with pytest.raises(ValueError, match=r"num_inits: expected at most 256\d{7}, so that counts"):
        prepare(too_many)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"graph": ("petersen",)},
            "graph: expected tutorial, karate_club, les_miserables, a",
        ),
        ({"graph": ("nothing.npz",)}, "nothing.npz: expected a graph as .npz"),
        ({"graph": ("karate_club+self_loops",)}, "graph: expected non-trivial twins, got none in"),
        ({"layer": ("gcn",), "heads": (2,)}, "heads: expected 1 among them for gcn"),
        ({"slope": (float("nan"),)}, "slope: expected a finite number"),
    ],
)
def test_what_cannot_be_swept_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        prepare(SweepSpec(**fields))


def save_tutorial(file, scale: int) -> None:
    source = datasets.load_task("tutorial").graph
    rows, columns = source.nodes.nonzero()
    np.savez(
        file,
        num_nodes=4,
        senders=source.senders,
        receivers=source.receivers,
        feat_data=scale * source.nodes[rows, columns],
        feat_indices=columns,
        feat_indptr=np.searchsorted(rows, np.arange(5)),
        feat_shape=(4, 2),
        labels=np.zeros(4, int),
        labelled=np.ones(4, bool),
    )


def test_a_graph_from_a_file_is_known_by_its_contents(tmp_path):
    file = tmp_path / "four.npz"
    save_tutorial(file, 1)
    spec = SweepSpec(graph=(str(file),))
    cells = prepare(spec)
    assert cells.entries[0].key.startswith("file.gat.h1")
    assert cells.entries[0].name.startswith("four.npz.gat.h1")
    check_enlarges(cells.header, prepare(spec).header)
    save_tutorial(file, 2)
    with pytest.raises(ValueError, match=r"graph .*four\.npz has changed since"):
        check_enlarges(cells.header, prepare(spec).header)


OLD = {"num_inits": 1000, "heads": (1, 2), "precision": 0.01}


@pytest.mark.parametrize(
    "change",
    [{"num_inits": 1001}, {"heads": (1, 2, 4)}, {"slope": (0.2, 0.5)}, {"precision": None}],
)
def test_more_of_everything_enlarges_a_spec(change):
    old = prepare(SweepSpec(**OLD)).header
    check_enlarges(old, prepare(SweepSpec(**OLD | change)).header)
    check_enlarges(None, old)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed 0 in the store, 1 asked for"),
        ({"measure": "collisions"}, "measure all in the store, collisions asked for"),
        ({"keep": "raw"}, "keep summary in the store, raw asked for"),
        ({"block_size": 131072}, "block_size 1048576 in the store, 131072 asked for"),
        ({"num_inits": 999}, "num_inits 1000 in the store, 999 now"),
        ({"heads": (2,)}, "heads without 1, which the store has"),
        ({"gain": (2.0,)}, "gain given, but the store has the initialisers' own"),
        ({"precision": 0.1}, "precision 0.01 in the store, 0.1 now"),
    ],
)
def test_a_conflict_is_shown_as_the_difference(change, message):
    old = prepare(SweepSpec(**OLD)).header
    with pytest.raises(ValueError, match="out: expected a spec that enlarges .*" + message):
        check_enlarges(old, prepare(SweepSpec(**OLD | change)).header)


@pytest.mark.parametrize("name", ["device", "version_jax", "version_jaxlib", "batches_per_tile"])
def test_what_bit_equality_rests_on_must_not_change(name):
    header = prepare(SweepSpec()).header
    with pytest.raises(ValueError, match=f"{name} another in the store"):
        check_enlarges(header._replace(**{name: "another"}), header)
