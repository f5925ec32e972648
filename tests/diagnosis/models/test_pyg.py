"""Live models of PyTorch Geometric: on what was recorded, our layers return what theirs did."""

import copy
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import messy_graph
from recorded_layers import assert_reproduced, recomputed

from gat_jax.diagnosis.models.pyg import observe_pyg
from gat_jax.diagnosis.models.pyg_reruns import DIFFERS, NOT_KNOWN, are_same

pytestmark = pytest.mark.torch


def tensors(num_edge_features=0, seed=3):
    """Features, edge index and edge features of a messy graph of eight nodes."""
    import torch

    graph = messy_graph(seed, num_edge_features=num_edge_features)
    ids = torch.tensor(np.stack([graph.senders, graph.receivers]).astype(np.int64))
    shuffled = torch.tensor(np.random.default_rng(seed).permutation(ids.shape[1]))
    edges = torch.tensor(graph.edges)[shuffled] if num_edge_features else None
    return torch.tensor(graph.nodes), ids[:, shuffled], edges


def randomised(model, seed=0):
    """The model with random numbers in all its parameters, biases too."""
    import torch

    torch.manual_seed(seed)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def mixed_model():
    """Dropout, batch norm, residuals, a shared layer, averaged heads: all that lies between."""
    import torch
    from torch.nn import functional
    from torch_geometric.nn import GATConv, GATv2Conv, GCNConv, SAGEConv

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = GATConv(3, 2, heads=2, dropout=0.6, residual=True, negative_slope=0.4)
            self.norm = torch.nn.BatchNorm1d(4)
            self.drop = torch.nn.Dropout(0.5)
            self.shared = GATv2Conv(4, 4, heads=3, concat=False, dropout=0.3)
            self.inner = torch.nn.ModuleList([SAGEConv(4, 4), GCNConv(4, 5)])
            self.unused = GATConv(3, 2)

        def forward(self, x, edge_index):
            x = self.drop(self.norm(self.first(x, edge_index)))
            x = functional.relu_(self.shared(x, edge_index))
            x = x + self.shared(x, edge_index)
            x = functional.dropout(self.inner[0](x, edge_index), 0.5)
            return self.inner[1](x, edge_index)

    return randomised(Model())


def test_all_layers_of_a_model_are_recorded():
    x, ids, _ = tensors()
    model = observe_pyg(mixed_model(), x, ids)
    assert_reproduced(model, "first", "shared#1", "shared#2", "inner.1")
    systems = [call.layer.system for call in model.layers]
    assert systems == ["PyG GATConv", "PyG GATv2Conv", "PyG GATv2Conv", "PyG GCNConv"]
    first = model.layers[0]
    np.testing.assert_array_equal(first.graph.nodes, x.numpy())
    assert float(first.layer.settings.slope) == 0.4
    assert first.layer.replaces_self_loops
    assert (first.graph.senders == first.graph.receivers).sum() == 8
    assert (model.layers[1].outputs < 0).any()  # what is changed in place later is recorded before
    np.testing.assert_array_equal(model.outputs, model.layers[-1].outputs)
    assert model.notes == (
        "unused was not called: it is not diagnosed.",
        "inner.0 is a SAGEConv, which passes messages too; it is not diagnosed.",
        DIFFERS,  # by the last dropout
    )
    assert len(model.graph.senders) == ids.shape[1]
    assert model.graph.edges is None


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_and_random_numbers_are_left_as_they_were(fails):
    import torch

    x, ids, _ = tensors()
    model = mixed_model()
    model.norm.eval()
    flags = {name: module.training for name, module in model.named_modules()}
    assert set(flags.values()) == {False, True}
    state, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    if fails:
        model.inner[1].register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            observe_pyg(model, x, ids)
    else:
        observe_pyg(model, x, ids)
    assert flags == {name: module.training for name, module in model.named_modules()}
    assert torch.equal(rng, torch.get_rng_state())
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key])
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not model.first._forward_hooks
    assert not model.first._forward_hooks_with_kwargs


@pytest.mark.parametrize("name", ["GATConv", "GATv2Conv"])
@pytest.mark.parametrize("fill_value", ["mean", "max", 0.5])
def test_edge_features_are_read_with_those_of_the_loops(name, fill_value):
    import torch_geometric.nn

    x, ids, edges = tensors(2)
    options = {"heads": 2, "edge_dim": 2, "fill_value": fill_value}
    conv = randomised(getattr(torch_geometric.nn, name)(3, 2, **options))
    model = observe_pyg(conv, x, ids, edge_attr=edges)
    assert_reproduced(model, name)
    assert model.layers[0].layer.loop_features == fill_value
    assert model.graph.edges.shape == (16, 2)


def test_edge_features_of_one_column_need_no_axis_and_may_be_missing():
    from torch_geometric.nn import GATConv

    x, ids, edges = tensors(1)
    conv = randomised(GATConv(3, 2, edge_dim=1))
    assert_reproduced(observe_pyg(conv, x, ids, edge_attr=edges[:, 0]), "GATConv")
    without = observe_pyg(conv, x, ids)
    assert_reproduced(without, "GATConv")
    assert without.layers[0].layer.config.num_edge_features == 0
    ignored = observe_pyg(randomised(GATConv(3, 2)), x, ids, edge_attr=edges)
    assert_reproduced(ignored, "GATConv")
    assert ignored.graph.edges is None


@pytest.mark.parametrize("name", ["GATConv", "GATv2Conv", "GCNConv"])
@pytest.mark.parametrize("flow", ["source_to_target", "target_to_source"])
def test_loops_may_be_left_alone_and_edges_run_either_way(name, flow):
    import torch_geometric.nn

    x, ids, _ = tensors()
    conv = getattr(torch_geometric.nn, name)(3, 2, add_self_loops=False, flow=flow)
    model = observe_pyg(randomised(conv), x, ids)
    assert_reproduced(model, name)
    [call] = model.layers
    assert not call.layer.replaces_self_loops
    assert len(call.graph.senders) == 16
    is_against = flow == "target_to_source"
    expected = "GATConv sends from edge_index[1] to edge_index[0], as its flow says."
    assert model.notes == ((expected.replace("GATConv", name),) if is_against else ())
    degrees = np.bincount(ids[1 - is_against].numpy(), minlength=8)
    np.testing.assert_array_equal(np.bincount(model.graph.receivers, minlength=8), degrees)


@pytest.mark.parametrize("in_channels", [3, (3, 3)])
def test_a_flow_against_the_edges_swaps_the_ends_alone(in_channels):
    from torch_geometric.nn import GATConv, GATv2Conv

    x, ids, edges = tensors(2)
    for kind in (GATConv, GATv2Conv):
        conv = randomised(kind(in_channels, 2, edge_dim=2, flow="target_to_source"))
        assert_reproduced(observe_pyg(conv, x, ids, edge_attr=edges), kind.__name__)


@pytest.mark.parametrize("improved", [False, True])
@pytest.mark.parametrize("add_self_loops", [False, True])
def test_weights_of_a_gcn_are_those_of_pyg(add_self_loops, improved):
    import torch
    from torch_geometric.nn import GCNConv

    x, ids, _ = tensors()
    weight = torch.rand(16, generator=torch.Generator().manual_seed(0))
    weight[:3] = 0.0
    conv = randomised(GCNConv(3, 2, improved=improved, add_self_loops=add_self_loops))
    model = observe_pyg(conv, x, ids, edge_weight=weight)
    assert_reproduced(model, "GCNConv")
    assert model.graph.edges.shape == (16, 1)
    assert_reproduced(observe_pyg(conv, x, ids), "GCNConv")


def test_what_a_node_without_incoming_weights_sends_to_a_gcn_counts_nothing():
    import torch
    from torch_geometric.nn import GCNConv

    x, ids = torch.rand(3, 3) + 1, torch.tensor([[0, 1, 2], [1, 2, 1]])
    conv = randomised(GCNConv(3, 2, add_self_loops=False))
    model = observe_pyg(conv, x, ids, edge_weight=torch.tensor([1.0, 2.0, 3.0]))
    assert_reproduced(model, "GCNConv")
    assert model.layers[0].edge_weight[0] == 0


def test_a_gcn_without_weights_has_no_multiplier_and_a_cache_is_not_read():
    from torch_geometric.nn import GCNConv

    x, ids, _ = tensors()
    conv = randomised(GCNConv(3, 2, cached=True))
    conv(x, ids[:, :5])
    cache = conv._cached_edge_index
    model = observe_pyg(conv, x, ids)
    assert_reproduced(model, "GCNConv")
    assert model.layers[0].edge_weight is None
    assert conv._cached_edge_index is cache


def test_models_are_called_with_what_they_take():
    import torch
    from torch_geometric.data import Batch, Data
    from torch_geometric.nn import GATConv, Sequential

    class OfData(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = GATConv(3, 2, edge_dim=2)

        def forward(self, data):
            data.x = self.conv(
                data.x, data.edge_index, return_attention_weights=True, edge_attr=data.edge_attr
            )[0]
            return data.x, None

    x, ids, edges = tensors(2)
    data = Data(x=x, edge_index=ids, edge_attr=edges)
    model = randomised(OfData())
    alone = observe_pyg(model, data)
    assert_reproduced(alone, "conv")
    assert data.x is x
    np.testing.assert_array_equal(alone.outputs, alone.layers[0].outputs)
    batch = observe_pyg(model, Batch.from_data_list([data, data]))
    assert_reproduced(batch, "conv")
    np.testing.assert_allclose(batch.outputs[8:], alone.outputs, rtol=1e-5, atol=1e-6)
    given = observe_pyg(model, x, ids, forward_args=(data,))
    np.testing.assert_array_equal(given.outputs, alone.outputs)
    turned = Sequential("edges, x", [(GATConv(3, 2), "x, edges -> x"), torch.nn.ReLU()])
    assert_reproduced(observe_pyg(turned, x, ids, forward_args=(ids, x)), "module_0")


def test_models_of_pyg_and_numbers_of_nodes_are_taken():
    import torch
    from torch_geometric.nn import GAT, GATConv

    x, ids, _ = tensors()
    model = randomised(GAT(3, 4, 2, out_channels=3, v2=True, jk="cat", dropout=0.5, norm="batch"))
    assert_reproduced(observe_pyg(model, x, ids), "convs.0", "convs.1")

    class Embedded(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.conv = torch.nn.Embedding(4, 3), GATConv((3, 3), 2)

        def forward(self, kinds, edge_index):
            x = self.table(kinds)
            return self.conv((x, x), edge_index).sum()

    kinds = torch.tensor([0, 1, 2, 3] * 2)
    observed = observe_pyg(randomised(Embedded()), kinds, ids)
    assert_reproduced(observed, "conv")
    np.testing.assert_array_equal(observed.graph.nodes[:, 0], kinds.numpy())
    assert observed.outputs is None


def test_half_and_double_precision_and_parametrised_weights_are_read():
    import torch
    from torch_geometric.nn import GATConv

    x, ids, _ = tensors()
    conv = randomised(GATConv(3, 2, heads=2))
    for dtype, tolerance in ((torch.bfloat16, 0.05), (torch.float64, 1e-6)):
        conv = conv.to(dtype)
        [call] = observe_pyg(conv, x.to(dtype), ids).layers
        assert call.outputs.dtype == (np.float64 if dtype is torch.float64 else np.float32)
        np.testing.assert_allclose(recomputed(call), call.outputs, rtol=0, atol=tolerance)
    conv = conv.float()
    torch.nn.utils.parametrizations.weight_norm(conv.lin)
    assert_reproduced(observe_pyg(conv, x, ids), "GATConv")


# --- randomness -----------------------------------------------------------------------------------


def model_with(change):
    """A layer, and something that is done with its outputs."""
    import torch
    from torch_geometric.nn import GATConv

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.drop = GATConv(3, 2, dropout=0.6), torch.nn.Dropout()
            self.noise = np.random.default_rng(0)
            self.register_buffer("steps", torch.zeros(()))
            self.register_buffer("decay", torch.ones(1, 3), persistent=False)
            self.register_buffer("sparse", torch.eye(2).to_sparse())
            self.collected = []

        def forward(self, x, edge_index):
            return change(self, x, edge_index)

    return randomised(Model())


def dropped(self, x, edge_index):
    from torch.nn import functional

    return self.conv(functional.dropout(x), edge_index)


def with_noise(self, x, edge_index):
    """Noise that torch knows nothing of, and a result of one number in a dictionary."""
    out = self.conv(x, edge_index)
    return {"loss": [out.sum() + self.noise.normal()]}


def with_votes(self, x, edge_index):
    """Only the layer's inputs are random, and what is returned are whole numbers."""
    return dropped(self, x, edge_index).argmax(dim=1) * 0


def with_choices(self, x, edge_index):
    """Only one large whole number among what is returned is random."""
    import torch

    self.conv(x, edge_index)
    return torch.tensor([10**9, 10**9 + int(self.noise.integers(1000))])


def with_truths(self, x, edge_index):
    self.conv(x, edge_index)
    return x > self.noise.normal()


def collecting(self, x, edge_index):
    """Not random, but each call returns what those before it did too."""
    self.collected.append(self.conv(x, edge_index))
    return self.collected


@pytest.mark.parametrize(
    "change", [dropped, with_noise, with_votes, with_choices, with_truths, collecting]
)
def test_a_model_that_computes_other_numbers_again_is_said_to(change):
    x, ids, _ = tensors()
    model = model_with(change)
    assert observe_pyg(model, x, ids).notes == (DIFFERS,)
    assert observe_pyg(model, x, ids, is_run_twice=False).notes == ()


def in_evaluation(self, x, edge_index):
    out = self.drop(self.conv(self.drop(x), edge_index))
    return out, float("nan") * x, out.argmax(dim=1), out > 0, (out * 1j).conj()


def in_place(self, x, edge_index):
    return self.conv(x.add_(1.0), edge_index)


def counting(self, x, edge_index):
    """One buffer is changed in place, the other by another tensor."""
    self.steps += 1
    self.decay = 0.5 * self.decay
    return self.conv((x + self.steps) * self.decay, edge_index), self.steps


@pytest.mark.parametrize("change", [in_evaluation, in_place, counting])
def test_a_model_that_is_not_random_is_not_said_to_be(change):
    x, ids, _ = tensors()
    assert observe_pyg(model_with(change), x, ids).notes == ()


class Inputs(NamedTuple):
    """What some models take in place of features and edges."""

    x: Any
    edge_index: Any


def test_a_named_tuple_that_is_changed_in_place_is_copied():
    x, ids, _ = tensors()
    model = model_with(lambda self, given, _: self.conv(given.x.add_(1.0), given.edge_index))
    observed = observe_pyg(model, x, ids, forward_args=(Inputs(x.clone(), ids), None))
    assert observed.notes == ()


@pytest.mark.parametrize("is_run_twice", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_buffers_are_left_as_they_were(is_run_twice, fails):
    x, ids, _ = tensors()
    model = model_with(counting)
    buffers = dict(model.named_buffers())
    if fails:
        model.conv.register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            observe_pyg(model, x, ids, is_run_twice=is_run_twice)
    else:
        observe_pyg(model, x, ids, is_run_twice=is_run_twice)
    assert all(buffer is buffers[name] for name, buffer in model.named_buffers())
    assert model.steps == 0
    assert (model.decay == 1).all()


def test_a_backward_pass_that_waits_for_buffers_is_not_disturbed():
    x, ids, _ = tensors()
    model = model_with(lambda self, x, edge_index: self.conv(x * self.decay, edge_index))
    loss = model(x.requires_grad_(), ids).sum()
    observe_pyg(model, x, ids)
    loss.backward()


def only_once(self, x, edge_index):
    if hasattr(self, "has_run"):
        raise RuntimeError("only once")
    self.has_run = True
    return self.conv(x, edge_index)


def of_an_iterator(self, x, edge_indices):
    return self.conv(x, next(edge_indices))


@pytest.mark.parametrize("is_of_iterator", [False, True])
def test_a_model_that_cannot_be_run_twice_is_diagnosed_and_said_to_be_one(is_of_iterator):
    x, ids, _ = tensors()
    model = model_with(of_an_iterator if is_of_iterator else only_once)
    observed = observe_pyg(model, x, ids, forward_args=(x, iter([ids]) if is_of_iterator else ids))
    assert_reproduced(observed, "conv")
    kind = "StopIteration" if is_of_iterator else "RuntimeError"
    assert observed.notes == (NOT_KNOWN.format(error=kind),)


def test_rounding_is_not_random():
    one = np.array([1.0, 0.001], np.float32)
    assert are_same([one], [one + np.float32(5e-6)])
    undefined = np.array([1.0, np.nan], np.float32)
    assert are_same([undefined], [undefined + np.float32(5e-6)])
    assert not are_same([one], [one + np.float32(5e-5)])
    whole = np.array([10**9])
    assert not are_same([whole], [whole + 1])
    assert not are_same([whole > 0], [whole < 0])
    assert not are_same([one], [one[:1]])
    assert not are_same([one], [one, one])


# --- what is refused ------------------------------------------------------------------------------


def refusals():
    """Each case: what is wrong, the model or what makes it, changes of the inputs, the message."""
    import torch
    from torch_geometric.nn import GATConv, GATv2Conv, GCNConv, HeteroConv, SAGEConv

    class Other(GATConv):
        def message(self, x_j, alpha):
            return 2 * x_j * alpha[..., None]

    class Doubled(GATConv):
        def forward(self, x, edge_index):
            return super().forward(2 * x, edge_index)

    class Never(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = GATConv(3, 2)

        def forward(self, x, edge_index):
            return x

    class On(torch.nn.Module):
        """A layer on other inputs than the model's."""

        def __init__(self, change):
            super().__init__()
            self.conv, self.change = GATConv(3, 2, add_self_loops=False), change

        def forward(self, x, edge_index):
            return self.conv(*self.change(x, edge_index))

    def with_weights(value):
        conv = GATConv(3, 2)
        torch.nn.init.constant_(conv.lin.weight, value)
        return conv

    replaced = GATConv(3, 2)
    replaced.forward = lambda x, edge_index: x
    x, ids, _ = tensors()
    hetero = HeteroConv({("a", "to", "a"): GATConv(3, 2)})
    sparse = torch.sparse_coo_tensor(ids, torch.ones(16), (8, 8), check_invariants=True).coalesce()
    nan = x.clone()
    nan[1, 2] = np.nan
    many = torch.nn.Sequential(torch.nn.Linear(3, 2), SAGEConv(2, 2))
    weight = {"edge_weight": -torch.ones(16)}
    return {
        "no module": (len, {}, "model: expected a torch.nn.Module, got builtin_function_or_method"),
        "no layer": (
            many,
            {},
            "model: expected a layer among GATConv, GATv2Conv, GCNConv, got Linear, ",
        ),
        "several kinds": (
            hetero,
            {},
            "model: expected one for one kind of nodes, got HeteroConv",
        ),
        "scripted": (
            torch.nn.Sequential(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2))),
            {},
            "model: expected one that is not scripted or traced, got TopLevelTracedModule at 0",
        ),
        "compiled": (
            torch.compile(GATConv(3, 2)),
            {},
            "model: expected one that is not compiled, got OptimizedModule",
        ),
        "lazy": (
            GATConv(-1, 2),
            {},
            "model: expected weights, got none yet in lin.weight; call it once before",
        ),
        "another message": (
            torch.nn.Sequential(Other(3, 2)),
            {},
            "0: expected a GATConv as PyG has it, got Other with another message",
        ),
        "another forward": (
            Doubled(3, 2),
            {},
            "Doubled: expected a GATConv as PyG has it, got Doubled with another forward",
        ),
        "replaced": (replaced, {}, "expected a GATConv as PyG has it, got GATConv with another fo"),
        "never called": (Never(), {}, "model: expected to call conv, got no call of them"),
        "aggregation": (
            GATv2Conv(3, 2, aggr="max"),
            {},
            "GATv2Conv: expected aggr='add', got 'max'",
        ),
        "not normalised": (
            GCNConv(3, 2, normalize=False),
            {},
            "GCNConv: expected normalize=True, got False",
        ),
        "fill_value": (
            GATConv(3, 2, edge_dim=2, fill_value=torch.tensor([1.0, 2.0])),
            {},
            "GATConv: expected one fill_value for all columns, got 2",
        ),
        "fill_value in words": (
            GATConv(3, 2, edge_dim=2, fill_value="any"),
            {},
            "GATConv: expected fill_value among add, mean, min, max, mul, got 'any'",
        ),
        "weights": (
            with_weights(np.nan),
            {},
            "GATConv.lin.weight: expected finite numbers, got nan at [0, 0]",
        ),
        "inputs": (GATConv(3, 2), {"x": nan}, "x: expected finite numbers, got nan at [1, 2]"),
        "ids": (
            GATConv(3, 2),
            {"edge_index": ids + 4},
            "edge_index: expected ids in [0, 8), got ",
        ),
        "an edge index of floats": (
            GATConv(3, 2),
            {"edge_index": ids.float()},
            "edge_index: expected an integer dtype, got float32",
        ),
        "an edge list": (
            GATConv(3, 2),
            {"edge_index": ids.T},
            "edge_index: expected shape [2, E], got [16, 2]",
        ),
        "sparse": (
            GATConv(3, 2),
            {"edge_index": sparse},
            "edge_index: expected a tensor [2, E], got Tensor of torch.sparse_coo; ",
        ),
        "sparse within": (
            On(lambda x, ids: (x, sparse)),
            {},
            "conv: edge_index: expected a tensor [2, E], got Tensor of torch.sparse_coo; ",
        ),
        "two sets": (
            On(lambda x, ids: ((x, x + 1), ids)),
            {},
            "conv: x: expected one set of nodes, got features of senders and of receivers; ",
        ),
        "one side": (
            On(lambda x, ids: ((x, None), ids)),
            {},
            "conv: x: expected one set of nodes, got features of senders and of receivers; ",
        ),
        "other nodes": (
            On(lambda x, ids: (x[:4], ids[:, :0])),
            {},
            "conv: x: expected 8 rows, one for each node of the model's graph, got 4; ",
        ),
        "infinite inputs": (
            On(lambda x, ids: (x / 0, ids)),
            {},
            "conv: x: expected finite numbers, got ",
        ),
        "a dictionary": (GATConv(3, 2), {"x": {"a": x}}, "x: expected a tensor, got dict"),
        "negative weights": (
            GCNConv(3, 2, add_self_loops=False),
            weight,
            "GCNConv: edge_weight: expected weights whose sum at each node is at least 0, got -",
        ),
    }


REFUSALS = (
    *("no module", "no layer", "several kinds", "scripted", "compiled", "lazy", "another message"),
    *("another forward", "replaced", "never called", "aggregation", "not normalised"),
    *("fill_value", "fill_value in words", "weights", "inputs", "ids", "an edge index of floats"),
    *("an edge list", "sparse", "sparse within", "two sets", "one side", "other nodes"),
    *("infinite inputs", "a dictionary", "negative weights"),
)


@pytest.fixture(scope="module")
def refused_cases():
    return refusals()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_not_diagnosed_is_refused_in_one_line(refused_cases, case):
    assert set(refused_cases) == set(REFUSALS)
    model, changes, message = refused_cases[case]
    x, ids, _ = tensors()
    inputs = {"x": x, "edge_index": ids} | changes
    flag = getattr(model, "training", None)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is compared below)
        observe_pyg(model, inputs.pop("x"), inputs.pop("edge_index"), **inputs)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert getattr(model, "training", None) == flag


def test_data_of_several_kinds_and_edges_beside_data_are_refused():
    from torch_geometric.data import Data, HeteroData
    from torch_geometric.nn import GATConv

    x, ids, _ = tensors()
    with pytest.raises(ValueError, match="x: expected features of one kind of nodes, got HeteroD"):
        observe_pyg(GATConv(3, 2), HeteroData())
    with pytest.raises(ValueError, match="edge_index: expected None beside a Data, got both"):
        observe_pyg(GATConv(3, 2), Data(x=x, edge_index=ids), ids)
    with pytest.raises(ValueError, match="x: expected a tensor, got NoneType"):
        observe_pyg(GATConv(3, 2), Data(edge_index=ids))
