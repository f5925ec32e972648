"""How likely is a collision at initialisation? Deterministic quadrature for Gaussian attention.

Given the projections z and an isotropic Gaussian a = [a_recv | a_send], the logits of a pair of
twins i, k with support S are jointly Gaussian, and

    p = 2 P(min(c_i, c_k) + min_{j in S} n_j > 0),

with c and n independent. Writing a_send = rho u with |u| = 1, min_j n_j = rho h(u) for
h(u) = min_j z_j . u, and likewise min(c_i, c_k) = s g(v) for a direction v in the plane of z_i
and z_k. Given the directions, the signs of h and g decide, or else the ratio of two chi
variables, whose distribution function is elementary: what is left is the mean over u and v.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike


class Quadrature(NamedTuple):
    """A number and how far it moved as the number of nodes was halved, twice: the larger move."""

    value: float
    error: float


def gaussian_collision_probability(
    twin_features: ArrayLike, support_features: ArrayLike, *, num_nodes: int = 2**13
) -> Quadrature:
    """Return P(one head gives two twins equal rows), for `a` drawn from N(0, I).

    Args:
      twin_features: [2, C] projected features z_i, z_k of the twins.
      support_features: [S, C] projected features z_j of their common support, S >= 1.
      num_nodes: directions u; a quarter as many directions v.

    Returns:
      The probability, without unit, and an error estimate. On a line and in a plane (rank of
      the support 1 or 2) the error falls as `num_nodes` to the power -2; above, the
      directions are a Sobol sequence (unscrambled: deterministic) and it falls about as -1.
      H heads, drawn independently, collide together with probability p^H.

    Raises:
      ValueError: on shapes that do not fit.
    """
    twin_features = np.asarray(twin_features, np.float64)
    support_features = np.asarray(support_features, np.float64)
    if twin_features.ndim != 2 or len(twin_features) != 2:
        raise ValueError(f"twin_features: expected shape [2, C], got {twin_features.shape}")
    if support_features.ndim != 2 or support_features.shape[1:] != twin_features.shape[1:]:
        expected = f"[S, {twin_features.shape[1]}]"
        raise ValueError(f"support_features: expected {expected}, got {support_features.shape}")
    if len(support_features) < 1:
        raise ValueError("support_features: expected at least one row, got 0")
    if (
        np.array_equal(twin_features[0], twin_features[1])
        or np.ptp(support_features, axis=0).max(initial=0.0) == 0.0
    ):
        return Quadrature(1.0, 0.0)  # equal queries, or uniform attention
    n_rows, c_rows = _in_span(support_features), _in_span(twin_features)
    sizes = (num_nodes // 4, num_nodes // 2, num_nodes)
    values = [_mean_over_directions(c_rows, n_rows, size) for size in sizes]
    # One halving alone moves the value by next to nothing now and then, whatever its error.
    return Quadrature(values[-1], float(np.max(np.abs(np.diff(values)))))


def _mean_over_directions(c_rows, n_rows, num_nodes: int) -> float:
    """Return 2 P(s g + rho h > 0), the mean over directions taken at `num_nodes` each."""
    # A pair of rank 1 is one of rank 2 that does not use its second coordinate: s is Rayleigh
    # either way, and s^2, rho^2 are chi-square variables with 2 and r degrees of freedom.
    c_rows = np.pad(c_rows, [(0, 0), (0, 2 - c_rows.shape[1])])
    rank = n_rows.shape[1]
    g = np.min(_directions(2, num_nodes // 4) @ c_rows.T, axis=1)
    h = np.min(_directions(rank, num_nodes) @ n_rows.T, axis=1)
    total = 0.0
    for part in np.array_split(h, max(1, len(h) // 1024)):
        g2, h2 = g[None] ** 2, part[:, None] ** 2
        # rho^2 / (rho^2 + s^2) follows Beta(r/2, 1): its distribution function is x^(r/2).
        s_wins = (g2 / np.maximum(g2 + h2, np.finfo(float).tiny)) ** (rank / 2)
        positive = np.where(part[:, None] >= 0, 1.0 - s_wins, 0.0)
        positive = np.where(g[None] >= 0, np.where(part[:, None] >= 0, 1.0, s_wins), positive)
        total += float(positive.sum())
    return 2.0 * total / (len(g) * len(h))


def _in_span(rows: Float[np.ndarray, "rows channels"]) -> Float[np.ndarray, "rows rank"]:
    """Return coordinates in an orthonormal basis of the rows' span, which keep all products."""
    left, singular, _ = np.linalg.svd(rows, full_matrices=False)
    rank = max(1, int(np.sum(singular > singular[0] * 1e-12)))
    return left[:, :rank] * singular[:rank]


def _directions(rank: int, num: int) -> Float[np.ndarray, "directions rank"]:
    """Return `num` directions that average over the unit sphere of the given dimension."""
    if rank == 1:
        return np.array([[-1.0], [1.0]])
    if rank == 2:
        angles = 2.0 * np.pi * (np.arange(num) + 0.5) / num
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # Imported here, for scipy.stats takes a second, and this needs it alone in its room.
    import scipy.special
    import scipy.stats

    # The first point of the sequence is 0, which no normal quantile maps to a direction.
    points = scipy.stats.qmc.Sobol(rank, scramble=False).random(num) + 0.5 / num
    directions = scipy.special.ndtri(points)
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)
