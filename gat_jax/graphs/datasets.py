"""Graphs that have a name: the tutorial's, two classics, random ones, and those of files."""

import os
from collections.abc import Callable
from pathlib import Path

import jraph
import numpy as np

from gat_jax.graphs import build, interop, planetoid, tables, transforms
from gat_jax.graphs.files import NodeTask, read_npz
from gat_jax.runtime.arrays import check_count, shown

SELF_LOOPS = "+self_loops"  # after the name of a graph: every node gets a self-loop


# --- built-in graphs --------------------------------------------------------------------------


def tutorial_graph() -> jraph.GraphsTuple:
    """Return the four nodes of the tutorial the article discusses; nodes 2 and 3 are twins.

    Features 0..7 in rows of two; self-loops included. Source: UvA deep learning notebooks, 7.
    """
    adjacency = [[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]]
    return interop.from_adjacency(adjacency, nodes=np.arange(8, dtype=np.float32).reshape(4, 2))


def karate_club() -> jraph.GraphsTuple:
    """Return Zachary's karate club (34 nodes, 78 edges both ways), identity features."""
    import networkx as nx  # in the functions that need it, as the import takes long

    return interop.from_networkx(nx.karate_club_graph())


def les_miserables() -> jraph.GraphsTuple:
    """Return Knuth's Les Miserables (77 nodes, 254 edges both ways), identity features."""
    import networkx as nx

    return interop.from_networkx(nx.les_miserables_graph())


def _tutorial_task() -> NodeTask:
    """Return the tutorial's task: the twins have different labels."""
    return NodeTask("tutorial", tutorial_graph(), np.array([0, 0, 0, 1], np.int32))


def _karate_task() -> NodeTask:
    """Return the task in which a member's class is the club after the split."""
    import networkx as nx

    clubs = nx.get_node_attributes(nx.karate_club_graph(), "club")
    labels = np.array([club == "Officer" for club in clubs.values()], np.int32)
    return NodeTask("karate_club", karate_club(), labels)


# The one list of built-in names, for command lines, sweeps and studies.
_BUILT_IN: dict[str, Callable[[], NodeTask]] = {
    "tutorial": _tutorial_task,
    "karate_club": _karate_task,
    "les_miserables": lambda: NodeTask("les_miserables", les_miserables(), None),
}
GRAPH_NAMES = tuple(_BUILT_IN)


def random_graph(
    seed: int,
    *,
    num_nodes: int,
    num_edges: int,
    num_features: int,
    num_edge_features: int = 0,
    num_twins: int = 0,
) -> jraph.GraphsTuple:
    """Draw a directed multigraph with planted twins; Gaussian features, float32.

    Endpoints are uniform, so duplicate edges, self-loops and isolated nodes occur. Afterwards
    each of the last `num_twins` nodes gives up its incoming edges for a copy of those of its
    partner, `num_twins` ids before it, so the final number of edges varies.

    Raises:
      ValueError: if a number is negative, there is no node, or there are not two nodes for every
        planted twin.
    """
    for field, value, least in (
        ("seed", seed, 0),
        ("num_nodes", num_nodes, 1),
        ("num_edges", num_edges, 0),
        ("num_features", num_features, 0),
        ("num_edge_features", num_edge_features, 0),
        ("num_twins", num_twins, 0),
    ):
        check_count(field, value, least)
    if not 0 <= 2 * num_twins <= num_nodes:
        raise ValueError(f"num_twins: expected 0 to {num_nodes // 2}, got {num_twins}")
    rng = np.random.default_rng(seed)
    senders = rng.integers(num_nodes, size=num_edges)
    receivers = rng.integers(num_nodes, size=num_edges)
    edges = rng.standard_normal((num_edges, num_edge_features)).astype(np.float32)
    kept = receivers < num_nodes - num_twins
    copied = kept & (receivers >= num_nodes - 2 * num_twins)
    edges = np.concatenate([edges[kept], edges[copied]])
    return build.from_edges(
        np.concatenate([senders[kept], senders[copied]]),
        np.concatenate([receivers[kept], receivers[copied] + num_twins]),
        nodes=rng.standard_normal((num_nodes, num_features)).astype(np.float32),
        edges=edges if num_edge_features else None,
    )


# --- graphs by name or file -------------------------------------------------------------------


def load_task(source: str | Path) -> NodeTask:
    """Return a graph, its labels and its splits by a built-in name, or from a file or a folder.

    Args:
      source: one of `GRAPH_NAMES`, or the path of an `.npz` file (`read_npz`), of a folder with
        Planetoid's raw files or of one data set in it, `FOLDER/ind.NAME` (`read_planetoid`), or of
        a folder of tables (`read_tables`). With "+self_loops" at its end, every node gets one
        self-loop.

    Returns:
      The task; its name is the built-in name, the file's stem, the data set's or the folder's, with
      "+self_loops" if it was asked for.

    Raises:
      ValueError: if there is no such graph, a file cannot be read, or self-loops are asked for
        where there are some already.
    """
    base = str(source).removesuffix(SELF_LOOPS)
    if base in _BUILT_IN:
        task = _BUILT_IN[base]()
    elif base.endswith(".npz"):
        task = read_npz(Path(base))
    elif base and planetoid.is_planetoid(Path(base)):
        task = planetoid.read_planetoid(Path(base))
    elif os.path.isdir(base):
        task = tables.read_tables(Path(base))
    else:
        names = ", ".join(GRAPH_NAMES)
        raise ValueError(
            f"graph: expected {names}, a folder or a .npz file, got {source or shown(source)}"
        )
    if base == str(source):
        return task
    looped = transforms.add_self_loops(task.graph)
    return task._replace(name=task.name + SELF_LOOPS, graph=looped)


def load_graph(source: str | Path) -> jraph.GraphsTuple:
    """Return a graph by a built-in name or from a file: `load_task` without the labels."""
    return load_task(source).graph


def load_directory(directory: str | Path) -> list[NodeTask]:
    """Read every `.npz` graph of a directory, in the order of their names.

    Args:
      directory: its path.

    Raises:
      ValueError: if there is none, or as `read_npz`.
    """
    if not isinstance(directory, str | Path):
        raise ValueError(f"data: expected the path of a directory, got {shown(directory)}")
    directory = Path(directory)
    paths = sorted(directory.glob("*.npz"))
    if not paths:
        raise ValueError(f"data: expected a directory with .npz graphs, got {directory}")
    return [read_npz(path) for path in paths]
