"""What a remedy changes: the features, the edges or the weights of a model, ready to train on.

What can be kept of the weights is kept, and what is new is drawn as the layer's system draws it:

* More heads: the heads that there are come first. A single head becomes several that are averaged,
  so that the width stays; of several that are concatenated, the layer after gets rows for the new
  ones. Those are drawn: with zeros in them the model would not see the new heads.
* GATv2 in place of GAT or GCN: the projection of the senders stays, which makes the values.
* A residual path: drawn, a tenth as large as a fresh one. From zeros it would separate nothing.
* A positional feature: rows of the kernel are drawn for it, for the same reason.
* Standardised features: the layer that reads them is drawn anew. Its weights could be folded with
  means and deviations so that all outputs stay what they are, and then nothing would change.
* Other self-loops: all weights stay.
"""

import dataclasses
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jaxtyping import Float

from gat_jax.diagnosis.models.loops import edge_list_of, with_loops, without_loops
from gat_jax.diagnosis.models.observed import ImportedLayer, ObservedModel
from gat_jax.diagnosis.weights.pyg import to_pyg
from gat_jax.graphs import from_edges, standardise
from gat_jax.layers import LayerConfig, LayerParams, LayerSettings, init_layer
from gat_jax.runtime.text import visible

RemedyName = Literal[
    "fresh",
    "more_heads",
    "eight_heads",
    "gatv2",
    "standardised_features",
    "residual",
    "self_loops",
    "positional_feature",
]
REMEDIES: tuple[RemedyName, ...] = get_args(RemedyName)
HEADS: dict[str, int] = {"more_heads": 2, "eight_heads": 8}  # twice as many; so many
NUM_POSITIONAL = 4  # columns of the positional feature
RESIDUAL_SCALE = 0.1  # of a new residual path, in units of a fresh one
RENAMED = {"kernel": "kernel_send", "bias": "bias_send"}  # of GAT and GCN, in GATv2
ALONE = ("GATConv", "GATv2Conv", "GCNConv")  # names of a layer that is the whole model


class Change(NamedTuple):
    """A changed model: its graph, its layers, and the same as PyTorch Geometric takes it."""

    graph: jraph.GraphsTuple  # features and edges
    layers: tuple[ImportedLayer, ...]  # one for each call, with parameters to begin from
    # Weights of the layers by their names in the model, for `load_state_dict(..., strict=False)`;
    # None if the model is none of PyG's, or PyG has no such layer.
    state_dict: dict[str, np.ndarray] | None
    notes: tuple[str, ...] = ()  # one sentence for each thing that is left to the user


def offered(layer: ImportedLayer, *, has_edge_weight: bool = False) -> tuple[RemedyName, ...]:
    """Return the remedies that change a layer, the fresh layer first, with which to compare.

    Args:
      layer: of a model.
      has_edge_weight: whether the layer is given weights of edges; nobody knows those of new
        self-loops.
    """
    config = layer.config
    is_gcn = config.layer == "gcn"
    missing = {
        "more_heads": is_gcn,
        "eight_heads": is_gcn or 2 * config.heads >= HEADS["eight_heads"],
        "gatv2": config.layer == "gatv2",
        "residual": config.use_residual,
        "self_loops": has_edge_weight,
    }
    return tuple(name for name in REMEDIES if not missing.get(name, False))


def remedy(name: str, model: ObservedModel, *, seed: int = 0, layer: str | None = None) -> Change:
    """Change a model as a remedy of its diagnosis says.

    Args:
      name: one of `REMEDIES`, as in `RemedyReport.name`.
      model: as an importer has observed it.
      seed: of what is drawn.
      layer: name of the layer that is changed, as in `RemedyReport.layer`; None: the first. A
        residual path is given to all later layers as well, and self-loops are those of all.

    Returns:
      The changed graph and layers. The notes say what is to be done beside.

    Raises:
      ValueError: if there is no such remedy or layer, the layer has already what the remedy gives,
        or it is called several times and would get another width.
    """
    depth = _depth_of(name, model, layer)
    target = model.layers[depth].layer
    is_read = reads_features(model.graph, model.layers[depth].graph) and depth == 0
    calls = [k for k, call in enumerate(model.layers) if _base(call.layer) == _base(target)]
    changed = set(calls)
    if name == "residual":
        changed |= {k for k in range(depth, len(model.layers))}
    widths = [len(call.layer.params[0]) for call in model.layers]
    layers = [call.layer for call in model.layers]
    for k in sorted(changed):
        if k not in calls and "residual" not in offered(layers[k]):
            continue
        layers[k] = change_layer(name, layers[k])
    grown = layers[depth].config.num_outputs - target.config.num_outputs
    after = depth + 1
    is_chain = after < len(layers) and widths[after] == target.config.num_outputs
    if name == "positional_feature":
        widths[depth] += NUM_POSITIONAL
    if grown and is_chain:
        changed.add(after)
        widths[after] += grown
    if len(calls) > 1 and (grown or name == "positional_feature"):
        raise ValueError(
            f"layer: expected one that is called once, as its width would change, got "
            f"{visible(_base(target))}"
        )
    graph = change_graph(name, model.graph, target, seed=seed)
    if name == "standardised_features" and not is_read:
        graph = model.graph
    if name == "self_loops":
        layers = [one._replace(replaces_self_loops=False) for one in layers]
    keys = jax.random.split(jax.random.key(seed), len(layers))
    drawn = {}
    for k in sorted(changed):
        old = model.layers[k].layer
        drawn.setdefault(_base(old), _params(name, old, layers[k].config, widths[k], keys[k]))
        layers[k] = layers[k]._replace(params=drawn[_base(old)])
    state, notes = _state_dict(layers)
    notes += _notes(name, layers, depth, is_read=is_read, grown=grown)
    return Change(graph, tuple(layers), state, notes)


def change_layer(name: str, layer: ImportedLayer) -> ImportedLayer:
    """Return a layer whose configuration and settings are changed; its parameters are the old."""
    config, settings = layer.config, layer.settings
    if name in HEADS:
        heads = 2 * config.heads if name == "more_heads" else HEADS[name]
        concat = config.concat and config.heads > 1
        settings = LayerSettings(*(_by_head(value, heads) for value in settings))
        config = dataclasses.replace(config, heads=heads, concat=concat)
    elif name == "gatv2":
        # PyG's has all three biases or none.
        is_pyg = layer.system.startswith("PyG")
        use_bias = config.use_bias or (is_pyg and config.use_output_bias)
        config = dataclasses.replace(
            config, layer="gatv2", gcn_normalization="mean", use_bias=use_bias
        )
    elif name == "residual":
        config = dataclasses.replace(config, use_residual=True)
    elif name == "positional_feature" and config.num_receiver_features:
        width = config.num_receiver_features + NUM_POSITIONAL
        config = dataclasses.replace(config, num_receiver_features=width)
    if config.initializer == "gaussian" and name in ("gatv2", "positional_feature"):
        config = dataclasses.replace(config, initializer="glorot_normal")  # W = I does not fit
    return layer._replace(config=config, settings=settings)


def change_graph(
    name: str, graph: jraph.GraphsTuple, layer: ImportedLayer, *, seed: int = 0
) -> jraph.GraphsTuple:
    """Return a graph with the features or self-loops that a remedy gives it.

    Args:
      name: of the remedy; one that changes weights alone leaves the graph as it is.
      graph: the user's, or that of a layer.
      layer: whose self-loops are replaced by the other kind.
      seed: of the positional feature.
    """
    if name == "standardised_features":
        return graph._replace(nodes=standardise(graph.nodes))
    if name == "positional_feature":
        return graph._replace(nodes=with_position(np.asarray(graph.nodes), seed=seed))
    if name == "self_loops":
        ends, num_nodes = edge_list_of(graph), len(graph.nodes)
        if layer.replaces_self_loops or has_loops(graph):
            ends = without_loops(ends)
        else:
            ends = with_loops(ends, num_nodes, layer.loop_features)
        return from_edges(ends.senders, ends.receivers, nodes=graph.nodes, edges=ends.edges)
    return graph


def with_position(
    nodes: Float[np.ndarray, "nodes features"], *, seed: int
) -> Float[np.ndarray, "nodes more_features"]:
    """Append a positional feature: columns of seeded Gaussian numbers, as large as the features.

    Structural features, and the eigenvectors of a Laplacian but for one, are equal for twins. A
    random number belongs to the node, so that no two nodes have equal features any more.
    """
    columns = np.random.default_rng(seed).normal(size=(len(nodes), NUM_POSITIONAL))
    size = float(np.sqrt(np.mean(np.square(nodes, dtype=np.float64)))) if nodes.size else 0.0
    columns *= size if size > 0 else 1.0
    return np.concatenate([nodes, columns.astype(nodes.dtype)], axis=1)


def reads_features(graph: jraph.GraphsTuple, attended: jraph.GraphsTuple) -> bool:
    """Whether a layer is given the features of the graph as they are."""
    given, read = np.asarray(graph.nodes), np.asarray(attended.nodes)
    return given.shape == read.shape and bool(np.allclose(given, read, rtol=1e-5, atol=0.0))


# --- edges ----------------------------------------------------------------------------------------


def has_loops(graph: jraph.GraphsTuple) -> bool:
    """Whether a graph is one with self-loops: most of its nodes have one."""
    is_loop = np.asarray(graph.senders) == np.asarray(graph.receivers)
    return 2 * int(np.sum(is_loop)) > len(graph.nodes)


# --- weights --------------------------------------------------------------------------------------


def _by_head(value: Any, heads: int) -> Any:
    """Return a setting for more heads: one for each head is repeated, head after head."""
    if np.ndim(value) == 0:
        return value
    return jnp.asarray(np.resize(np.asarray(value), heads))


def _params(
    name: str, old: ImportedLayer, config: LayerConfig, width: int, key: jax.Array
) -> LayerParams:
    """Draw a layer, and put the old weights in their places in it."""
    fresh = init_layer(key, config, width)
    reads_anew = name in ("fresh", "standardised_features")
    kept = {} if reads_anew else old.params._asdict()
    if config.layer != old.config.layer:
        kept = {RENAMED.get(field, field): value for field, value in kept.items()}
    arrays = {}
    for field, value in fresh._asdict().items():
        if value is None:
            continue
        array = np.array(value)
        if kept.get(field) is not None:
            before = np.asarray(kept[field])
            array[tuple(slice(size) for size in before.shape)] = before
        elif field == "residual_kernel" and not reads_anew:
            array *= RESIDUAL_SCALE
        arrays[field] = jnp.asarray(array)
    return type(fresh)(**arrays)


def _state_dict(
    layers: list[ImportedLayer],
) -> tuple[dict[str, np.ndarray] | None, tuple[str, ...]]:
    """Return the weights as PyG names them, and why there are none if it has no such layer."""
    if not all(layer.system.startswith("PyG") for layer in layers):
        return None, ()
    state = {}
    for layer in layers:
        name = _base(layer)
        prefix = "" if name in ALONE else f"{name}."
        try:
            arrays = to_pyg(layer)
        except ValueError as error:
            return None, (f"PyG has no layer for {visible(name)}: {error}.",)
        state |= {prefix + key: array for key, array in arrays.items()}
    return state, ()


# --- words and errors -----------------------------------------------------------------------------


def _base(layer: ImportedLayer) -> str:
    """Return the name of a layer, without the number of its call."""
    return layer.name.split("#")[0]


def _depth_of(name: str, model: ObservedModel, layer: str | None) -> int:
    """Return which layer is changed, if that can be done."""
    if name not in REMEDIES:
        raise ValueError(f"name: expected one of {', '.join(REMEDIES)}, got {name!r}")
    names = [call.layer.name for call in model.layers]
    if layer is not None and layer not in names:
        known = ", ".join(visible(one) for one in names)
        raise ValueError(f"layer: expected one of {known}, got {layer!r}")
    depth = 0 if layer is None else names.index(layer)
    call = model.layers[depth]
    found = offered(call.layer, has_edge_weight=call.edge_weight is not None)
    if name not in found:
        raise ValueError(
            f"name: expected one of {', '.join(found)} for {visible(names[depth])} "
            f"({visible(call.layer.system)}), got {name!r}"
        )
    return depth


def _notes(
    name: str, layers: list[ImportedLayer], depth: int, *, is_read: bool, grown: int
) -> tuple[str, ...]:
    """Say what the user has to do beside."""
    layer = layers[depth]
    where, config = visible(_base(layer)), layer.config
    notes = []
    if grown:
        notes.append(
            f"{where} returns {config.num_outputs:,} numbers for each node, {grown:,} more than "
            "before: norms and linear maps that read them have to be as wide."
        )
    if name in HEADS:
        merging = "concatenated" if config.concat else "averaged"
        notes.append(f"Make {where} with {config.heads} heads, which are {merging}.")
    if name == "gatv2":
        notes.append(f"Make {where} as a GATv2Conv with the same options.")
    if name == "residual":
        notes.append(f"Make {where} and all later layers with a residual path (residual=True).")
    if name == "self_loops":
        notes.append(
            "The self-loops are those of the changed graph: make the layers with "
            "add_self_loops=False."
        )
    if not is_read and name == "standardised_features":
        notes.append(
            f"{where} does not read the features as they are: put a norm over the nodes before it "
            "(such as BatchNorm), which standardises what it reads."
        )
    if name == "positional_feature":
        place = "beside its inputs" if not is_read else "as features"
        notes.append(
            f"{where} reads the last {NUM_POSITIONAL} columns of the changed graph {place}. They "
            "belong to these nodes: the model means nothing on another graph."
        )
    return tuple(notes)
