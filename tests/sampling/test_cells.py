import pytest

from gat_jax.layers import LayerConfig
from gat_jax.sampling import Cell, prepare_cell
from gat_jax.sampling.cells import batch_size
from gat_jax.studies import tutorial_init

GRAPH, PAIRS = tutorial_init.tutorial_twins()
CELL = Cell("tutorial", LayerConfig(initializer="tutorial"))


def shape_of(initializer="glorot_uniform", *, slope=0.2, gain=None, features="raw", **layer):
    config = LayerConfig(initializer=initializer, **layer)
    cell = Cell("tutorial", config, features, slope=slope, gain=gain)
    return prepare_cell(cell, GRAPH, PAIRS, seed=0).shape


def test_cells_that_differ_in_numbers_alone_share_a_shape():
    shape = shape_of()
    same = [shape_of("pyg"), shape_of(slope=2.0, gain=3.0), shape_of(features="standardised")]
    assert {*same} == {shape}
    assert shape_of("he_normal") == shape_of("dgl") != shape
    assert same[0].layer.initializer == "pyg"  # no shape says what is not so
    others = [
        shape_of("gaussian", use_bias=False),
        shape_of("glorot_normal", use_bias=False),
        shape_of(slope=-1.0),
        shape_of(features="normal"),
        shape_of(heads=2),
        shape_of(use_residual=True),
        shape_of(layer="gatv2"),
    ]
    assert len({shape, *others}) == 8


def test_batch_size_bounds_memory():
    layout = prepare_cell(CELL, GRAPH, PAIRS, seed=0).shape.layout
    assert batch_size(CELL.layer, layout, 10) == 2**14
    assert batch_size(CELL.layer, layout, 10_000) == 32
    assert batch_size(CELL.layer, layout, 10**9) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slope": float("nan")}, "slope: expected a finite number, got nan"),
        ({"gain": 0.0}, "gain: expected between 1e-6 and 1e6, got 0.0"),
        ({"layer": LayerConfig(num_edge_features=1)}, "num_edge_features: expected 0"),
    ],
)
def test_a_cell_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Cell(**({"graph": "tutorial", "layer": LayerConfig()} | options))
