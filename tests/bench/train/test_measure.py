import dataclasses
import functools
import json

import benchmark
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from bench.train import cases, measure
from bench_inputs import NUMBERS, write_cora

from gat_jax.layers import LayerSettings, apply_network
from gat_jax.training import GAT_PAPER_CORA, TrainConfig, train_run


@pytest.mark.slow
def test_the_package_trains_as_a_loop_by_hand_does(tmp_path):
    """With dropout and weight decay, written down once more with optax alone."""
    write_cora(tmp_path)
    task = cases.load_task(tmp_path, "segment")
    assert np.flatnonzero(task.label_mask).tolist() == list(range(9))
    np.testing.assert_allclose(np.sum(task.graph.nodes, axis=1), 1.0, rtol=1e-6)
    configs = cases.configs_for(task)
    params = jax.tree.map(lambda a: a[0], cases.initial_parameters(task, 1))
    config = TrainConfig("adam", 3, record_every=3)
    settings = GAT_PAPER_CORA.settings
    run = functools.partial(train_run, task=task, configs=configs, config=config, settings=settings)
    found, _ = jax.jit(run)(params, jax.random.key(5))
    adam = optax.chain(optax.add_decayed_weights(5e-4), optax.adam(0.005))
    rates = LayerSettings(feature_dropout=0.6, attention_dropout=0.6)

    def loss_of(params, key):
        logits, _ = apply_network(params, task.graph, configs, settings=rates, key=key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits[:9], task.labels[:9])
        return jnp.mean(losses)

    gradient, state = jax.jit(jax.grad(loss_of)), adam.init(params)
    for k in range(3):
        grads = gradient(params, jax.random.fold_in(jax.random.key(5), k))
        updates, state = adam.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.torch
@pytest.mark.slow
def test_main_writes_an_entry_for_every_system(tmp_path, capsys):
    write_cora(tmp_path)
    path = tmp_path / "train.json"
    options = ["--repeats", "1", "--num-seeds", "2", "--num-steps", "2"]
    options += ["--data-dir", str(tmp_path), "--json", str(path)]
    assert benchmark.main(["train", *options]) == 0
    document = json.loads(path.read_text())
    assert {e["system"] for e in document["entries"]} == {*measure.LAYOUTS, cases.PYG}
    for entry in document["entries"]:
        assert all(np.isfinite(entry[name]) for name in NUMBERS)
        assert entry["max_relative_error"] < measure.MAX_ERROR
        assert entry["throughput"] == pytest.approx(1 / entry["median_seconds"])
    assert document["machine"]["version_jax"]
    assert "we are faster by" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.torch
def test_another_learning_rate_is_found_out(tmp_path, monkeypatch):
    """PyG reads its rates when it is imported; ours are then made different."""
    write_cora(tmp_path)
    from bench.train import pyg

    other = GAT_PAPER_CORA.settings._replace(learning_rate=0.05)
    monkeypatch.setattr(
        measure, "GAT_PAPER_CORA", dataclasses.replace(GAT_PAPER_CORA, settings=other)
    )
    monkeypatch.setattr(measure, "LAYOUTS", {"gat_jax": "auto"})
    nothing = cases.Trainer(lambda: None, lambda: np.zeros(3))
    monkeypatch.setattr(pyg, "fastest", lambda *arguments: (nothing, "", {}))
    with pytest.raises(RuntimeError, match="gat_jax: expected losses"):
        measure.measure_training(tmp_path, num_seeds=1, num_steps=1, repeats=1)
