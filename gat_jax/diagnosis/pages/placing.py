"""Where the nodes of a small graph are drawn: springs, a pull to the middle, and no overlap."""

import numpy as np
from jaxtyping import Float, Int

NUM_STEPS = 250
PULL = 0.15  # to the middle, so that parts of a graph that hang together with nothing stay near
NUM_PUSHES = 200


def place_nodes(
    num_nodes: int, ends: Int[np.ndarray, "edges 2"], box: Float[np.ndarray, " 2"], *, least: float
) -> Float[np.ndarray, "nodes 2"]:
    """Place the nodes of a graph in a box; the same graph is always placed alike.

    Args:
      num_nodes: some hundreds at most, as all pairs are looked at.
      ends: two nodes of each edge, in any order.
      box: its width and height.
      least: distance of two nodes, as far as the box has room for it.

    Returns:
      Places from 0 to `box`.
    """
    places = _start(num_nodes)
    linked = np.zeros((num_nodes, num_nodes), bool)
    linked[ends[:, 0], ends[:, 1]] = linked[ends[:, 1], ends[:, 0]] = True
    np.fill_diagonal(linked, False)
    length = 1.0 / np.sqrt(max(num_nodes, 1))
    for step in range(NUM_STEPS):
        away, distance = _differences(places)
        force = length**2 / distance**2 - np.where(linked, distance / length, 0.0)
        move = np.sum(away * force[..., None], axis=1) - PULL * places
        size = np.maximum(np.linalg.norm(move, axis=1, keepdims=True), 1e-9)
        places = places + move / size * np.minimum(size, 0.2 * (1.0 - step / NUM_STEPS))
    low, high = places.min(axis=0), places.max(axis=0)
    extent = np.where(high - low > 1e-6, high - low, 1.0)
    places = np.where(high - low > 1e-6, (places - low[None]) / extent[None], 0.5) * box[None]
    return _push_apart(places, box, least)


def _start(num_nodes: int) -> Float[np.ndarray, "nodes 2"]:
    """Return places on a spiral, of which no two lie on a line with the middle."""
    turns = np.arange(num_nodes) * np.pi * (3.0 - np.sqrt(5.0))
    away = np.sqrt((np.arange(num_nodes) + 0.5) / max(num_nodes, 1))
    return away[:, None] * np.stack([np.cos(turns), np.sin(turns)], axis=1)


def _differences(
    places: Float[np.ndarray, "nodes 2"],
) -> tuple[Float[np.ndarray, "nodes nodes 2"], Float[np.ndarray, "nodes nodes"]]:
    """Return for every two nodes the way from the second to the first, and its length."""
    away = places[:, None] - places[None]
    return away, np.maximum(np.linalg.norm(away, axis=-1), 1e-3)


def _push_apart(
    places: Float[np.ndarray, "nodes 2"], box: Float[np.ndarray, " 2"], least: float
) -> Float[np.ndarray, "nodes 2"]:
    for _ in range(NUM_PUSHES):
        away, distance = _differences(places)
        np.fill_diagonal(distance, np.inf)
        short = np.maximum(least - distance, 0.0)
        if not short.any():
            break
        places = places + np.sum(away * (0.5 * short / distance)[..., None], axis=1)
        places = np.clip(places, 0.0, box[None])
    return places
