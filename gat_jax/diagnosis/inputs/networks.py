"""Graphs in the formats of networkx: GraphML, GEXF and GML.

A file of XML may define entities, which unfold to gigabytes or name other files. None is parsed
that does: `<!DOCTYPE` and `<!ENTITY` are refused in the text, which has to be UTF-8, so that they
cannot hide in another alphabet.
"""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from gat_jax.diagnosis.inputs.edges import Source
from gat_jax.graphs.interop import from_networkx
from gat_jax.runtime.arrays import is_number_of_float32, memory_limit, shown
from gat_jax.runtime.named_files import check_regular, reason_of

XML = (".graphml", ".gexf")
NETWORKS = (*XML, ".gml")
BYTES_PER_LETTER = 64  # of memory, while a file is parsed into objects of Python
NO_FEATURES = ("id", "label", "name", "_nx_name")


def read_network(path: Path) -> Source:
    """Read a graph through networkx; an undirected edge runs both ways.

    Nodes have the order of the file and are called by their ids, in GML by their labels if each has
    its own. Attributes that are numbers on every edge become edge features, and those that are
    numbers on every node become features; which they were is told in a note.

    Args:
      path: of a `.graphml`, `.gexf` or `.gml` file.

    Raises:
      ValueError: one line that names the file: it is no such file, or holds a document type or
        entities, or has no node.
    """
    # Whatever the parsers raise for a damaged file says the same: this is no graph.
    try:
        check_regular(path)
        if BYTES_PER_LETTER * path.stat().st_size > memory_limit():
            raise ValueError(f"a file of {path.stat().st_size:,} bytes, too many for the memory")
        if path.suffix in XML:
            _check_xml(path.read_bytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of keys without a type, which are read as text
            found = _parse(path)
    except Exception as error:
        got = reason_of(error)
        raise ValueError(f"{path}: expected a graph as {path.suffix}, got {got}") from error
    return _source(path, found)


def _check_xml(data: bytes) -> None:
    text = data.decode("utf-8-sig")
    if "\0" in text:
        raise ValueError("a NUL byte")
    declared = re.match(r"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([^\"']*)", text)
    if declared and declared[1].lower() not in ("utf-8", "us-ascii", "ascii"):
        raise ValueError(f"the encoding {shown(declared[1])}, where UTF-8 is read")
    for word in ("<!DOCTYPE", "<!ENTITY"):
        if word.lower() in text.lower():
            raise ValueError(f"{word}, which is not read: a graph needs none")


def _parse(path: Path) -> Any:
    import networkx as nx  # takes long, and few need it

    if path.suffix == ".graphml":
        return nx.read_graphml(path)
    if path.suffix == ".gexf":
        return nx.read_gexf(path)
    try:
        return nx.read_gml(path)
    except nx.NetworkXError as error:  # nodes without labels, or two of one label
        if "label" not in str(error):
            raise
        return nx.read_gml(path, label="id")


def _source(path: Path, found: Any) -> Source:
    if not len(found):
        raise ValueError(f"{path}: expected at least one node, got none")
    names = tuple(str(node) for node in found)
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: expected every id once, got two nodes of one name")
    of_edges = _numeric([attributes for *_, attributes in found.edges(data=True)])
    of_nodes = _numeric([attributes for _, attributes in found.nodes(data=True)])
    placeholder = np.zeros((len(names), 1), np.float32)  # one-hot ids may not fit into memory
    graph = from_networkx(
        found,
        nodes=None if of_nodes else placeholder,
        node_attributes=of_nodes,
        edge_attributes=of_edges,
    )
    notes = []
    for what, columns in (("edge", of_edges), ("node", of_nodes)):
        if columns:
            attributes = shown(", ".join(columns))
            noun, verb = ("attribute", "is") if len(columns) == 1 else ("attributes", "are")
            notes.append(f"The file's {noun} {attributes} {verb} read as {what} features.")
    return Source(
        senders=np.asarray(graph.senders, np.int64),
        receivers=np.asarray(graph.receivers, np.int64),
        num_nodes=len(names),
        names=names,
        edges=None if graph.edges is None else np.asarray(graph.edges),
        nodes=np.asarray(graph.nodes) if of_nodes else None,
        notes=tuple(notes),
    )


def _numeric(owners: list[dict]) -> list[str]:
    """Return the names of the attributes that are numbers on all of them, in order."""
    return [
        name
        for name in (owners[0] if owners else {})
        if name not in NO_FEATURES
        and all(is_number_of_float32(attributes.get(name)) for attributes in owners)
    ]
