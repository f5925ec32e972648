"""Graphs with labels: the tutorial's task, two classics, and files of real graphs."""

import zipfile
from pathlib import Path
from typing import NamedTuple

import jraph
import networkx as nx
import numpy as np
import scipy.sparse
from jaxtyping import Int

from gat_jax.graphs import build as graphs


class NodeTask(NamedTuple):
    """A graph whose nodes have classes."""

    name: str
    graph: jraph.GraphsTuple
    labels: Int[np.ndarray, " nodes"] | None  # class ids, -1 = unlabelled; None: there are none


def tutorial() -> NodeTask:
    """Return the tutorial graph, self-loops included; its twins have different labels."""
    return NodeTask("tutorial", graphs.tutorial_graph(), np.array([0, 0, 0, 1], np.int32))


def karate_club() -> NodeTask:
    """Return the karate club without self-loops; a member's class is the club after the split."""
    clubs = nx.get_node_attributes(nx.karate_club_graph(), "club")
    labels = np.array([club == "Officer" for club in clubs.values()], np.int32)
    return NodeTask("karate_club", graphs.karate_club(), labels)


def les_miserables() -> NodeTask:
    """Return Les Miserables without self-loops; it has no labels."""
    return NodeTask("les_miserables", graphs.les_miserables(), None)


def load(path: Path) -> NodeTask:
    """Read one graph from an `.npz` file, without self-loops and with raw features.

    Args:
      path: file with `num_nodes`, `senders` and `receivers` [E] (both directions),
        `feat_indptr`, `feat_indices`, `feat_data`, `feat_shape` (features as CSR), `labels` [N]
        and `labelled` [N]. No pickle is read.

    Raises:
      ValueError: names the file and what is wrong with it.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: expected a graph as .npz, got no such file or another format")
    try:
        with np.load(path, allow_pickle=False) as data:
            features = scipy.sparse.csr_array(
                (data["feat_data"], data["feat_indices"], data["feat_indptr"]),
                shape=tuple(data["feat_shape"]),
            )
            labels = np.where(data["labelled"], data["labels"], -1).astype(np.int32)
            nodes = features.toarray().astype(np.float32)
            graph = graphs.from_edges(data["senders"], data["receivers"], nodes=nodes)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: expected a graph as .npz, got {error}") from error
    if len(labels) != len(nodes):
        raise ValueError(f"{path}: expected {len(nodes)} labels, got {len(labels)}")
    return NodeTask(path.stem, graph, labels)


def load_directory(directory: Path) -> list[NodeTask]:
    """Read every `.npz` graph of a directory, in the order of their names.

    Raises:
      ValueError: if there is none, or as `load`.
    """
    paths = sorted(directory.glob("*.npz"))
    if not paths:
        raise ValueError(f"data: expected a directory with .npz graphs, got {directory}")
    return [load(path) for path in paths]
