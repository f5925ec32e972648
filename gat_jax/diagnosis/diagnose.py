"""The diagnosis of a model: every layer on its own inputs, and what comes out in the end.

This module is `gat_jax.diagnose`, so that a user writes `gat_jax.diagnose.from_pyg(...)`.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jraph
import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from gat_jax.diagnosis import as_json, checks, wording
from gat_jax.diagnosis.analysis import Analysed, analyse_layer, check_graph_of
from gat_jax.diagnosis.explain import explain
from gat_jax.diagnosis.models.from_weights import ActivationName, observe_weights
from gat_jax.diagnosis.models.loops import edge_list_of, with_loops, without_loops
from gat_jax.diagnosis.models.networks import observe_network
from gat_jax.diagnosis.models.observed import ObservedModel
from gat_jax.diagnosis.pages import page
from gat_jax.diagnosis.remedies import predictions as remedies
from gat_jax.diagnosis.remedies.changes import remedy
from gat_jax.diagnosis.remedies.trials import try_remedies
from gat_jax.diagnosis.results import Findings
from gat_jax.diagnosis.stages import carry
from gat_jax.diagnosis.watch import EqualTwinsWarning, Watch
from gat_jax.diagnosis.weights import read_arrays, read_layers
from gat_jax.graphs import equal_rows, from_edges, refine_colours, twin_classes
from gat_jax.layers import LayerSettings, NetworkConfig, NetworkParams
from gat_jax.runtime.arrays import check_range, check_whole_numbers

__all__ = [
    "Diagnosis",
    "EqualTwinsWarning",
    "Watch",
    "from_flax",
    "from_network",
    "from_observed",
    "from_pyg",
    "from_weights",
    "remedy",
    "try_remedies",
]

NUM_FRESH = 200  # fresh initialisations that a diagnosis draws by default
LOOP_FEATURES = "mean"  # of the edges that a node receives, as layers of PyG have them


class Diagnosis(Findings):
    """Why the nodes of a model come out equal, and ways to read it."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it; docs/diagnosis.md says what each key means."""
        return as_json.to_dict(self)

    def frame(self) -> Any:
        """Return the pairs of all layers as a `pandas.DataFrame`, one row for a pair and layer."""
        return as_json.frame(self)

    def to_html(self, path: str | Path) -> None:
        """Write a self-contained page, with drawings; the file is replaced.

        Raises:
          ValueError: if nothing can be written there.
        """
        page.write_page(self, path)

    def summary(self) -> str:
        """Return the answer, and tables of layers, checks and remedies, for a terminal."""
        return wording.summary_of(self)

    def __str__(self) -> str:
        """Return the summary."""
        return self.summary()


def from_observed(
    model: ObservedModel,
    *,
    labels: ArrayLike | None = None,
    node_names: Sequence[str] | None = None,
    before: ObservedModel | None = None,
    num_fresh: int = NUM_FRESH,
) -> Diagnosis:
    """Say which nodes a model gives equal outputs, why, and what would change it.

    Args:
      model: as an importer has observed it.
      labels: [N] class ids, negative where a node has none; needed for the floors of the loss.
      node_names: what the user calls the nodes; None: by their ids.
      before: the same model at an earlier checkpoint, on the same graph.
      num_fresh: how many fresh initialisations are drawn of each layer and for each remedy, 0 for
        none.

    Raises:
      ValueError: if labels or names do not fit the graph, a layer has two sets of nodes, or
        numbers are not finite.
    """
    if not model.layers:
        raise ValueError("model: expected at least one attention layer, got none")
    num_nodes = len(model.graph.nodes)
    checked = check_labels(labels, num_nodes)
    if node_names is not None and len(node_names) != num_nodes:
        raise ValueError(f"node_names: expected {num_nodes} names, got {len(node_names)}")
    analysed, stages = _analyse(model, num_fresh)
    final = stages[-1]
    theirs, last = model.outputs, model.layers[-1].outputs
    is_last = theirs is None or (last is not None and np.array_equal(theirs, last))
    if theirs is not None and len(theirs) == num_nodes and not is_last:
        final = carry(stages, np.asarray(theirs))
    colours = refine_colours(model.graph)
    notes = list(model.notes)
    refined = equal_rows(np.stack([colours, final], axis=1))
    if not np.array_equal(refined, colours):
        notes.append(
            "The model separates nodes that features and edges do not: it is given something else."
        )
    without, loops = _twins_by_loops(model.graph)
    floor, unavoidable = checks.floors_of(checked, final, refined)
    merged = explain(stages[0], final, refined, analysed)
    found = Diagnosis(
        graph=model.graph,
        node_names=None if node_names is None else tuple(node_names),
        layers=tuple(layer.diagnosis for layer in analysed),
        colours=refined,
        twins_without_loops=without,
        twins_with_loops=loops,
        final=final,
        merged=merged,
        labels=checked,
        loss_floor=floor,
        unavoidable_loss_floor=unavoidable,
        checks=(),
        remedies=(),
        answer="",
        notes=tuple(notes),
        before=None
        if before is None
        else from_observed(before, labels=labels, node_names=node_names, num_fresh=0),
    )
    found = dataclasses.replace(found, checks=checks.checks_of(found))
    if num_fresh:
        reports = remedies.predict_remedies(found, analysed, num_inits=num_fresh)
        found = dataclasses.replace(found, remedies=reports)
    return dataclasses.replace(found, answer=wording.answer_of(found))


def from_pyg(
    model: Any,
    x: Any,
    edge_index: Any = None,
    *,
    labels: ArrayLike | None = None,
    num_fresh: int = NUM_FRESH,
    **inputs: Any,
) -> Diagnosis:
    """Diagnose a live model of PyTorch Geometric.

    Args:
      model: a `torch.nn.Module` that calls `GATConv`, `GATv2Conv` or `GCNConv`; it is run in
        evaluation mode, twice, to see whether it is random then. Its flags and buffers are left as
        they were.
      x: [N, F] features, or a `Data`; see `models.pyg.observe_pyg`.
      edge_index: [2, E].
      labels: as `from_observed`.
      num_fresh: as `from_observed`.
      **inputs: whatever else the model's `forward` takes.

    Raises:
      ValueError: says in one line what is not supported, or what does not fit.
    """
    from gat_jax.diagnosis.models.pyg import observe_pyg  # here, as it needs torch

    check_labels(labels)
    return from_observed(
        observe_pyg(model, x, edge_index, **inputs), labels=labels, num_fresh=num_fresh
    )


def from_flax(
    module: Any,
    variables: Any,
    graph: Any = None,
    *args: Any,
    labels: ArrayLike | None = None,
    num_fresh: int = NUM_FRESH,
    **inputs: Any,
) -> Diagnosis:
    """Diagnose a live model of Flax that is built of our layers, or of jraphx's.

    Args:
      module: of Linen, or of NNX.
      variables: of a Linen module; None for one of NNX.
      graph: that it is applied to; or the features [N, F], before an `edge_index` [2, E]. It has a
        default for the sake of the error alone.
      *args: what the module is called with after that.
      labels: as `from_observed`.
      num_fresh: as `from_observed`.
      **inputs: what the module is called with by name.

    Raises:
      ValueError: says in one line what is not supported, or what does not fit.
    """
    from gat_jax.diagnosis.models.flax import observe_flax  # here, as importing NNX takes long

    check_labels(labels)
    observed = observe_flax(module, variables, graph, *args, **inputs)
    return from_observed(observed, labels=labels, num_fresh=num_fresh)


def from_network(
    params: NetworkParams,
    config: NetworkConfig,
    graph: jraph.GraphsTuple,
    *,
    settings: LayerSettings = LayerSettings(),
    labels: ArrayLike | None = None,
    num_fresh: int = NUM_FRESH,
) -> Diagnosis:
    """Diagnose a network of ours.

    Args:
      params: as `init_network` draws them, or trained.
      config: of the network.
      graph: that it is applied to.
      settings: of all its layers; evaluation has no dropout.
      labels: as `from_observed`.
      num_fresh: as `from_observed`.

    Raises:
      ValueError: if parameters, configuration and graph do not fit each other.
    """
    check_labels(labels)
    observed = observe_network(params, config, graph, settings=settings)
    return from_observed(observed, labels=labels, num_fresh=num_fresh)


def from_weights(
    path: str | Path,
    graph: jraph.GraphsTuple,
    *,
    activation: ActivationName = "elu",
    self_loops: bool | None = None,
    labels: ArrayLike | None = None,
    num_fresh: int = NUM_FRESH,
) -> Diagnosis:
    """Diagnose layers from a file of weights, without the model that they are of.

    Args:
      path: `.safetensors`, `.npz`, or a torch file, of which tensors alone are read.
      graph: its nodes are the features.
      activation: that stands between the layers.
      self_loops: False adds none; None leaves it to the system that the weights are of.
      labels: as `from_observed`.
      num_fresh: as `from_observed`.

    Raises:
      ValueError: lists what was found and what was expected, or says what does not fit.
    """
    check_labels(labels)
    layers = read_layers(read_arrays(path))
    observed = observe_weights(layers, graph, activation=activation, self_loops=self_loops)
    return from_observed(observed, labels=labels, num_fresh=num_fresh)


def _analyse(
    model: ObservedModel, num_fresh: int
) -> tuple[list[Analysed], list[Int[np.ndarray, " nodes"]]]:
    """Diagnose layer after layer; return them, and the classes after each, the features' first."""
    stages = [equal_rows(np.asarray(model.graph.nodes))]
    analysed = []
    for observed in model.layers:
        if len(check_graph_of(observed).nodes) != len(model.graph.nodes):
            raise ValueError(
                f"{observed.layer.name}: expected {len(model.graph.nodes)} nodes as in the graph, "
                f"got {len(observed.graph.nodes)}"
            )
        analysed.append(analyse_layer(observed, stages, num_fresh=num_fresh))
        stages.append(analysed[-1].diagnosis.outputs)
    return analysed, stages


def _twins_by_loops(
    graph: jraph.GraphsTuple,
) -> tuple[Int[np.ndarray, " nodes"], Int[np.ndarray, " nodes"]]:
    """Return the classes of twins of a graph without self-loops, and with one at every node.

    Features of these self-loops are made as PyG makes them by default.
    """
    given = edge_list_of(graph)
    plain, looped = (
        twin_classes(from_edges(senders, receivers, nodes=graph.nodes, edges=edges)).twin
        for senders, receivers, edges in (
            without_loops(given),
            with_loops(given, len(graph.nodes), LOOP_FEATURES),
        )
    )
    return plain, looped


def check_labels(labels: Any, num_nodes: int | None = None) -> Int[np.ndarray, " nodes"] | None:
    """Return labels as int32; without a number of nodes, what can be refused before a model runs.

    Raises:
      ValueError: if they are no class ids of so many nodes, or no node has one.
    """
    if labels is None:
        return None
    array = check_whole_numbers("labels", labels)
    if num_nodes is not None and array.shape != (num_nodes,):
        raise ValueError(f"labels: expected shape [{num_nodes}], got {list(array.shape)}")
    check_range("labels", array[array >= 0], np.iinfo(np.int32).max, "class ids")
    if not (array >= 0).any():
        raise ValueError("labels: expected at least one label >= 0, got none")
    return array.astype(np.int32)
