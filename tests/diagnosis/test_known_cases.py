"""Models of the kinds that people asked about, built in PyG, against all pairs in float64."""

from pathlib import Path

import numpy as np
import oracle_diagnosis as oracle
import pytest
import scipy.sparse

import gat_jax
from gat_jax.diagnosis.results import classes_of

pytestmark = pytest.mark.torch
CORA = Path(__file__).parents[3] / "shared" / "data" / "cora.npz"


def build(*convs, activation="elu"):
    """A model of layers with an activation between them."""
    import torch

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = torch.nn.ModuleList(convs)

        def forward(self, x, edge_index):
            for conv in self.convs[:-1]:
                x = getattr(torch.nn.functional, activation)(conv(x, edge_index))
            return self.convs[-1](x, edge_index)

    return Model()


def complete(num_nodes):
    import torch

    ends = [(i, j) for i in range(num_nodes) for j in range(num_nodes) if i != j]
    return torch.tensor(ends).T


def exact_outputs(model, x, edge_index):
    """What the model returns in float64."""
    import torch

    with torch.no_grad():
        return model.double().eval()(torch.as_tensor(x).double(), edge_index).numpy()


def causes_by_definition(conv, x, edges, num_nodes):
    """The primary cause of every pair of twins and head of a GATConv, from its weights."""
    weight, heads, channels = (
        conv.lin.weight.detach().double().numpy(),
        conv.heads,
        conv.out_channels,
    )
    z = (np.asarray(x, np.float64) @ weight.T).reshape(num_nodes, heads, channels)
    c, n = (
        (z * a.detach().double().numpy()).sum(-1)[..., None] for a in (conv.att_dst, conv.att_src)
    )
    senders = [sorted(s for s, r in edges if r == i) for i in range(num_nodes)]
    return {
        (i, k): [oracle.cause_of((c, n), senders[i], i, k, h) for h in range(heads)]
        for i in range(num_nodes)
        for k in range(i + 1, num_nodes)
        if senders[i] == senders[k]
    }


@pytest.mark.parametrize("seed", range(4))
def test_complete_graph_of_points_in_the_plane(seed):
    """GeometricFlux 154: three layers on a complete graph, whose nodes are all twins."""
    import torch
    from torch_geometric.nn import GATConv

    torch.manual_seed(seed)
    edge_index, x = complete(10), torch.rand(10, 2)
    model = build(GATConv(2, 4), GATConv(4, 8), GATConv(8, 16))
    found = gat_jax.diagnose.from_pyg(model, x, edge_index, num_fresh=0)
    assert found.to_dict()["twin_classes"] == [list(range(10))]
    edges = [*map(tuple, edge_index.T.tolist()), *((i, i) for i in range(10))]
    expected = causes_by_definition(model.convs[0], x, edges, 10)
    first = found.layers[0].pairs
    listed = zip(first.first.tolist(), first.second.tolist(), strict=True)
    assert dict(zip(listed, first.primary(), strict=True)) == expected
    exact = oracle.classes_by_values(exact_outputs(model, x, edge_index))
    np.testing.assert_array_equal(found.final, exact)


def test_the_tutorials_one_head():
    """uvadlc_notebooks 142: equal twins, in the positive regime and by uniform attention."""
    from gat_jax.diagnosis.diagnose import from_observed
    from gat_jax.diagnosis.models.from_weights import observe_weights
    from gat_jax.diagnosis.weights import read_layers

    adjacency = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]])
    graph = gat_jax.graphs.from_adjacency(adjacency, nodes=np.arange(8.0).reshape(4, 2))
    arrays = {
        "projection.weight": np.eye(2),
        "projection.bias": np.zeros(2),
        "a": np.array([[-0.2, 0.3, 0.1, -0.1]]),
    }
    layers = read_layers({key: value.astype(np.float32) for key, value in arrays.items()})
    found = from_observed(observe_weights(layers, graph), labels=[0, 0, 0, 1], num_fresh=0)
    np.testing.assert_allclose(found.layers[0].head_facts.entropy, 1.0, atol=1e-6)
    assert classes_of(found.final) == [[2, 3]]
    [pair] = [p for p in found.to_dict()["layers"][0]["pairs"] if p["nodes"] == [2, 3]]
    assert pair["causes"] == ["positive"]
    assert set(pair["all_causes"][0]) == {"positive", "uniform"}
    assert "because" in found.answer
    assert "every attention logit is positive" in found.answer
    assert found.loss_floor == pytest.approx(2 * np.log(2) / 4)


def test_48_nodes_that_nothing_tells_apart():
    """PyG 2104, with the same features everywhere: no network could do better."""
    import torch
    from torch_geometric.nn import GATConv

    torch.manual_seed(0)
    ring = torch.arange(48)
    edge_index = torch.cat(
        [torch.stack([ring, (ring + 1) % 48]), torch.stack([(ring + 1) % 48, ring])], 1
    )
    model = build(GATConv(4, 8, heads=2), GATConv(16, 3))
    found = gat_jax.diagnose.from_pyg(model, torch.ones(48, 4), edge_index, num_fresh=0)
    assert classes_of(found.final) == [list(range(48))]
    assert classes_of(found.colours) == [list(range(48))]
    assert len(found.merged.nodes) == 0
    assert "48 that no passing of messages along these edges can separate" in found.answer


def test_48_nodes_that_a_complete_graph_makes_equal():
    """PyG 2104, with different features: the same neighbours, and logits of one sign."""
    import torch
    from torch_geometric.nn import GATConv

    torch.manual_seed(1)
    edge_index, x = complete(48), torch.rand(48, 5) + 1
    model = build(GATConv(5, 8), GATConv(8, 3))
    with torch.no_grad():
        for conv in model.convs:
            conv.att_src.abs_()
            conv.att_dst.abs_()
            conv.lin.weight.abs_()
    found = gat_jax.diagnose.from_pyg(model, x, edge_index, num_fresh=0)
    assert classes_of(found.final) == [list(range(48))]
    assert classes_of(found.colours) == []
    assert set(found.merged.reasons) == {"positive"}
    assert oracle.classes_by_values(exact_outputs(model, x, edge_index)).tolist() == [0] * 48


def cora():
    data = np.load(CORA)
    matrix = scipy.sparse.csr_array(
        (data["feat_data"], data["feat_indices"], data["feat_indptr"]), shape=data["feat_shape"]
    )
    return matrix.toarray(), np.stack([data["senders"], data["receivers"]]), data["labels"]


def papers():
    """A graph like Cora, where its file is not: words by class, papers that cite others."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 1500)
    likely = 0.01 + 0.1 * (rng.random((7, 200)) < 0.2)
    x = (rng.random((1500, 200)) < likely[labels]).astype(np.float32)
    cited = np.minimum(rng.geometric(0.01, 2500) - 1, 1499)
    one_way = np.stack([rng.integers(0, 1500, 2500), cited])
    one_way = np.unique(one_way[:, one_way[0] != one_way[1]], axis=1)
    return x, np.concatenate([one_way, one_way[::-1]], axis=1), labels


@pytest.mark.parametrize("data", [papers, *([cora] if CORA.is_file() else [])])
def test_two_layers_after_a_short_training(data):
    """Final classes, and the floor of the loss, against float64."""
    import torch
    from torch_geometric.nn import GATConv

    features, ends, labels = data()
    x, labels = torch.tensor(features), labels.astype(np.int64)
    edge_index = torch.tensor(ends.astype(np.int64))
    torch.manual_seed(0)
    model = build(GATConv(x.shape[1], 8, heads=4), GATConv(32, 7))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    train = torch.arange(0, len(labels), 4)
    for _ in range(20):
        optimizer.zero_grad()
        outputs = model(x, edge_index)[train]
        torch.nn.functional.cross_entropy(outputs, torch.tensor(labels)[train]).backward()
        optimizer.step()
    found = gat_jax.diagnose.from_pyg(model, x, edge_index, labels=labels, num_fresh=0)
    assert {check.name: check.status for check in found.checks}["convs.0.reproduced"] == "pass"

    exact = exact_outputs(model, x, edge_index)
    for members in classes_of(found.final):
        assert np.ptp(exact[members], axis=0).max() < 1e-9
    # The other way round: one of each class, sorted along a direction, differs from the next.
    nodes = np.flatnonzero(found.final == np.arange(len(exact)))
    order = nodes[np.argsort(exact[nodes] @ np.arange(1.0, 8.0))]
    gaps = np.abs(exact[order[1:]] - exact[order[:-1]]).max(axis=1)
    assert gaps.min() > 1e-9
    assert found.loss_floor == pytest.approx(oracle.floor_of(labels.tolist(), found.final))
    assert len(classes_of(found.layers[0].twins)) >= 4
    assert len(found.merged.nodes) >= 4
