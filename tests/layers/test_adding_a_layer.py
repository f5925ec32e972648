"""To add a layer is to write one file and a line in three lists: this test does it, on a copy.

The steps are those of CONTRIBUTING.md. The copy then has a GAT with a learned temperature for each
head, which works on every layout, in a sweep and in training.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAYER = '''
"""GAT with a learned temperature per head: logits are divided by exp(log_temperature)."""

from typing import NamedTuple

import jax.numpy as jnp
import jraph
from jaxtyping import Array, Float

from gat_jax.kernels import Layout, attention, gat_logits, projections
from gat_jax.layers import gat_layer
from gat_jax.layers.base import (
    AttentionInfo,
    DropoutKey,
    EdgeMask,
    EdgeWeight,
    LayerKind,
    LayerSettings,
    LayerShape,
    ParamSpec,
    RowFormula,
)
from gat_jax.layers.frame import edge_multiplier, merge, prepare


class WarmGATParams(NamedTuple):
    """Parameters of `warm_gat`."""

    kernel: Float[Array, "*batch features heads channels"]
    a_recv: Float[Array, "*batch heads channels"]
    a_send: Float[Array, "*batch heads channels"]
    log_temperature: Float[Array, "*batch heads 1"]
    bias: Float[Array, "*batch heads channels"] | None = None
    output_bias: Float[Array, "*batch outputs"] | None = None
    residual_kernel: Float[Array, "*batch features outputs"] | None = None


def specs(config: LayerShape, num_features: int) -> dict[str, ParamSpec]:
    """Return the parameters that the layer has."""
    found = gat_layer.specs(config, num_features)
    return found | {"log_temperature": ParamSpec((config.heads, 1), "zeros")}


def warm_gat(
    params: WarmGATParams,
    graph: jraph.GraphsTuple,
    *,
    config: LayerShape | None = None,
    settings: LayerSettings = LayerSettings(),
    key: DropoutKey = None,
    edge_mask: EdgeMask | None = None,
    edge_weight: EdgeWeight | None = None,
    layout: Layout | None = None,
) -> tuple[Float[Array, "nodes outputs"], AttentionInfo]:
    """Graph attention with a temperature of each head's own; as `gat`."""
    inputs = prepare(
        "warm_gat", WarmGATParams, specs, params, graph, config=config, settings=settings,
        key=key, edge_mask=edge_mask, edge_weight=edge_weight, layout=layout,
    )
    z_nch = projections.project(inputs.senders, params.kernel, params.bias)
    c_nh, n_nh = projections.node_scores(z_nch, params.a_recv, params.a_send)
    mask_eh = attention.mask_by_head(edge_mask, c_nh.shape[1])
    options = {"mask_eh": mask_eh, "slope": settings.slope}
    x_eh = gat_logits.shifted_logits(inputs.layout, c_nh, n_nh, **options)
    x_eh = x_eh * jnp.exp(-params.log_temperature[:, 0])[None] / settings.temperature
    alpha_eh = attention.softmax(inputs.layout, x_eh, mask_eh)
    multiplier_eh = edge_multiplier(key, settings.attention_dropout, edge_weight, alpha_eh)
    out_nch = attention.softmax_sum(inputs.layout, x_eh, z_nch, multiplier_eh, mask_eh)
    out_nhc = out_nch.swapaxes(1, 2)
    logits_eh = gat_logits.raw_logits(inputs.layout, c_nh, n_nh)
    info = AttentionInfo(c_nh, n_nh, None, logits_eh, alpha_eh, out_nhc, channel_weights=None)
    return merge(out_nhc, params, inputs), info


def _shifted_row(params, places, query, keys, slope, is_monotone) -> list:
    [scale] = places.channels(jnp.exp(-params.log_temperature))
    rows = gat_layer.GAT.rows.shifted(params, places, query, keys, slope, is_monotone)
    return [scale * x for x in rows]


WARM_GAT = LayerKind(
    WarmGATParams, warm_gat, specs, RowFormula(gat_layer.GAT.rows.scores, _shifted_row)
)
'''

LISTS = {
    'LayerName = Literal["gat", "gatv2", "gcn"]': (
        'LayerName = Literal["gat", "gatv2", "gcn", "warm_gat"]'
    ),
    "LayerParams = GATParams | GATv2Params | GCNParams": (
        "LayerParams = GATParams | GATv2Params | GCNParams | WarmGATParams"
    ),
    '"gcn": GCN}': '"gcn": GCN, "warm_gat": WARM_GAT}',
    "from gat_jax.layers.gcn_layer import GCN, GCNParams": (
        "from gat_jax.layers.gcn_layer import GCN, GCNParams\n"
        "from gat_jax.layers.warm_gat_layer import WARM_GAT, WarmGATParams"
    ),
}

USE = """
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import gat_jax as gj
from gat_jax import layers

rng = np.random.default_rng(0)
senders, receivers = rng.integers(40, size=(2, 200))
graph = gj.from_edges(senders, receivers, nodes=rng.normal(size=(40, 5)).astype(np.float32))
config = gj.LayerConfig("warm_gat", heads=2, channels=3)
params = gj.init_layer(jax.random.key(0), config, 5)
assert params.log_temperature.shape == (2, 1)
params = params._replace(log_temperature=jnp.array([[0.3], [-0.4]]))

# Every layout, with its gradients.
def total(params, layout):
    return jnp.sum(layers.apply_layer(params, graph, config=config, layout=layout)[0] ** 2)

expected = jax.grad(total)(params, None)
for name in ("bucketed", "fused"):
    found = jax.grad(total)(params, gj.make_layout(graph, name))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)

# A sweep: a temperature changes no sign, so the collisions are those of GAT.
spec = gj.SweepSpec(layer=("gat", "warm_gat"), num_inits=20_000)
swept = gj.run_sweep(spec, Path(sys.argv[1]) / "sweep.zarr")
plain, warm = swept.collision_probability.values.ravel()
assert 0.7 < warm < 0.85 and abs(plain - warm) < 0.02, (plain, warm)

# Training learns the temperature.
tutorial = gj.load_graph("tutorial")
pairs = gj.twin_pairs(gj.twin_classes(tutorial))
task = gj.make_task(tutorial, np.array([0, 0, 0, 1]), np.ones(4, bool), pairs)
configs = (gj.LayerConfig("warm_gat", heads=2, channels=2, concat=False),)
start = gj.init_network(jax.random.key(1), configs, 2)
run = gj.TrainConfig("adam", 50, record_every=10)
(trained,), history = gj.train_run(start, task=task, configs=configs, config=run)
assert history.loss[-1] < history.loss[0]
assert (trained.log_temperature != 0).all()
assert len(gj.equal_nodes(trained, tutorial, config=configs[0])) == 4
"""


@pytest.mark.slow
def test_a_new_layer_is_one_file_and_three_lines(tmp_path):
    package = tmp_path / "gat_jax"
    shutil.copytree(ROOT / "gat_jax", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "layers" / "warm_gat_layer.py").write_text(LAYER)
    lists = package / "layers" / "config.py"
    text = lists.read_text()
    for before, after in LISTS.items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    lists.write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", USE, str(tmp_path)],
        # Hardly optimised programs, which compile in a third of the time.
        env=os.environ | {"PYTHONPATH": str(tmp_path), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
