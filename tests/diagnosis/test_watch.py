"""A watch says what is seen, warns once, keeps its share of the time, and changes nothing."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gat_jax import graphs
from gat_jax.diagnosis.models.networks import observe_network
from gat_jax.diagnosis.watch import EqualTwinsWarning, Record, Watch
from gat_jax.layers import GATParams, LayerConfig, apply_network, init_network

# Two senders, and three twins that attend to both.
EDGES = np.array([[0, 0], [1, 1], *([j, i] for i in (2, 3, 4) for j in (0, 1))])
NODES = np.array([[1, 2], [2, 1], [2.2, 1], [3, 1], [1, 4]], np.float32)
GRAPH = graphs.from_edges(*EDGES.T, nodes=NODES)
CONFIG = (LayerConfig(channels=2, use_bias=False),)


def params_of(sign):
    """A head with all logits of one sign where features are positive, for sign = 1; else mixed."""
    kernel = jnp.eye(2)[:, None]
    vector = jnp.array([[1.0, 0.2]])
    return (GATParams(kernel, jnp.array([[1.0, -0.4]]) if sign < 0 else vector, sign * vector),)


class Clock:
    """Seconds that pass only when something is said to take time."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("first", "later", "spacing"), [(0.5, 0.5, 32), (30.0, 0.01, 4), (0.01, 0.01, 4)]
)
def test_looks_keep_their_share_of_the_time(first, later, spacing):
    clock = Clock()
    steps = []

    def observe(step):
        clock.now += later if steps else first
        steps.append(step)

    watch = Watch(observe, every=4, clock=clock)
    for step in range(6000):
        clock.now += 1.0
        watch(step, step)
        if step > 1000:
            assert watch.seconds <= 0.05 * (step + watch.seconds)
    assert watch.seconds == pytest.approx(first + later * (len(steps) - 1))
    assert np.diff(steps)[[0, -1]].tolist() == [4, spacing]
    slow = [record for record in watch.history if "of the time" in record.note]
    assert [record.step for record in slow] == ([4] if first > 0.1 else [])
    if first == 30:
        assert slow[0].note == (
            "the parameters are not finite: not measured; looks took 88% of the time, more than "
            "5%: the next one is 8 steps later, the others when the time allows"
        )


def test_a_watch_looks_every_few_steps_whatever_the_first_is():
    steps = []
    watch = Watch(steps.append, every=3, clock=Clock(), max_share=1.0)
    for step in (5, 6, 7, 8, 9, 10, 11, 0, 1, 2, 3, np.int64(6)):
        watch(step, int(step))
    assert steps == [5, 8, 11, 0, 3, 6]


def test_a_watch_warns_once_and_in_words():
    watch = Watch.of_network(CONFIG, GRAPH, every=1, max_share=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch(0, params_of(1))  # at the start it may be chance
        watch(1, params_of(-1))
        watch(2, params_of(1))
    with pytest.warns(EqualTwinsWarning) as caught:
        watch(3, params_of(1))
    (warning,) = caught
    assert str(warning.message) == (
        "step 3: 3 of 3 twins come out equal in every layer, because every attention logit is "
        "positive; see gat_jax.diagnose"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch(4, params_of(1))
    assert [record.equal_share for record in watch.history] == [1.0, 0.0, 1.0, 1.0, 1.0]


def test_what_is_not_finite_is_recorded_and_goes_by():
    watch = Watch.of_network(CONFIG, GRAPH, every=1, max_share=1.0)
    watch(0, jax.tree.map(lambda x: x * jnp.nan, params_of(1)))
    watch(1, params_of(-1))
    first, second = watch.history
    assert first[:2] == (0, "")
    assert np.isnan(first[2:5]).all()
    assert first.note == "the parameters are not finite: not measured"
    assert (second.step, second.layer, second.note) == (1, "layers.0", "")
    frame = watch.frame()
    assert list(frame.columns) == list(Record._fields)
    assert frame["step"].tolist() == [0, 1]


@pytest.mark.usefixtures("unchecked")
def test_arguments_out_of_range_are_refused():
    cases: list[tuple[dict[str, Any], str]] = [
        ({"every": 0}, "every: expected .* got 0"),
        ({"patience": 0}, "patience: expected .* got 0"),
        ({"max_share": 0.0}, r"max_share: expected a finite number in \(0, 1\], got 0"),
        ({"warn_share": 1.5}, r"warn_share: expected a finite number in \(0, 1\], got 1.5"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            Watch.of_network(CONFIG, GRAPH, **options)
    with pytest.raises(ValueError, match=r"step: expected .* got 1\.5"):
        Watch.of_network(CONFIG, GRAPH)(1.5, params_of(1))  # pyright: ignore[reportArgumentType]


def test_an_optax_loop_is_watched_and_left_alone():
    labels = jnp.array([0, 1, 0, 0, 1])
    optimizer = optax.adam(0.1)

    @jax.jit
    def train(params, state):
        def loss(params):
            outputs, _ = apply_network(params, GRAPH, CONFIG)
            return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    def run(watch):
        params: Any = init_network(jax.random.key(3), CONFIG, 2)
        state = optimizer.init(params)
        kept = {}
        for step in range(21):
            if watch is not None:
                watch(step, params)
            kept[step] = params
            params, state = train(params, state)
        return kept

    watch = Watch.of_network(CONFIG, GRAPH, every=10, max_share=1.0, patience=4)
    kept = run(watch)
    np.testing.assert_array_equal(kept[20][0].kernel, run(None)[20][0].kernel)
    assert [record.step for record in watch.history] == [0, 10, 20]
    for record in watch.history:
        (layer,) = observe_network(kept[record.step], CONFIG, GRAPH).layers
        twins = np.round(np.asarray(layer.outputs, np.float64)[2:], 5)
        others = [len(np.unique(np.delete(twins, k, 0), axis=0)) for k in range(3)]
        num_distinct = len(np.unique(twins, axis=0))
        num_equal = sum(num_distinct == number for number in others)
        assert record.equal_share == pytest.approx(num_equal / 3)
        assert 0 < record.entropy <= 1
        assert 1 <= record.rank <= 2


@pytest.mark.torch
def test_a_loop_of_pyg_is_watched_and_left_alone():
    import torch
    from torch_geometric.nn import GATConv

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = GATConv(2, 3, heads=2, add_self_loops=False, dropout=0.5)
            self.conv2 = GATConv(6, 2, add_self_loops=False)

        def forward(self, x, edge_index, scale=1.0):
            x = torch.nn.functional.dropout(self.conv1(x, edge_index), 0.5, self.training)
            return self.conv2(torch.relu(x) * scale, edge_index)

    x, edge_index = torch.tensor(NODES), torch.tensor(EDGES.T.copy())
    labels = torch.tensor([0, 1, 0, 0, 1])

    def run(is_watched):
        torch.manual_seed(0)
        model = Net()
        options: dict[str, Any] = {"every": 4, "max_share": 1.0, "patience": 9, "scale": 0.5}
        watch = Watch.of_pyg(model, x, edge_index, **options)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        model.train()
        for step in range(9):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x, edge_index, 0.5), labels).backward()
            if is_watched:
                watch(step)
                assert all(module.training for module in model.modules())
            optimizer.step()
        return watch, model

    watch, model = run(is_watched=True)
    _, alone = run(is_watched=False)
    for one, other in zip(model.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other)
    assert [(r.step, r.layer) for r in watch.history] == [
        (step, layer) for step in (0, 4, 8) for layer in ("conv1", "conv2")
    ]
    with torch.no_grad():
        model.conv1.bias.fill_(torch.nan)
    watch(12)
    assert watch.history[-1].note == "the parameters are not finite: not measured"
