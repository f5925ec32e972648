"""DictionaryLookup: queries that each have to find their own key among all keys.

A dictionary has k keys and k queries. Every key sends to every query. A key has a value, which is
another one in each dictionary; a query is one key without its value, and its class is the value of
that key. So all queries of a dictionary are twins, and each has another class.

Source: Brody, Alon and Yahav 2022, arXiv:2105.14491, section 4.1.
"""

import numpy as np
from jaxtyping import Float, Int

from gat_jax.graphs import build
from gat_jax.graphs.files import NodeTask
from gat_jax.runtime.arrays import check_count, check_size


def dictionary_lookup(
    num_keys: int, num_dictionaries: int, seed: int, *, self_loops: bool = False
) -> NodeTask:
    """Draw dictionaries whose values are a random order of the classes, each as likely as any.

    The features are the key one-hot beside the value one-hot, zeros for the value of a query. A
    kernel maps them to the sum of one of k rows for the key and one of k rows for the value: these
    rows are what tables of embeddings are, so ids that are embedded and added up say the same
    functions.

    Args:
      num_keys: k, at least 2; there are as many values.
      num_dictionaries: D, which lie beside each other in one graph without edges between them.
      seed: of the orders.
      self_loops: whether queries send to themselves too; they are no twins then.

    Returns:
      A task of 2 k D nodes (the k keys of a dictionary, then its k queries) with 2 k features and
      k^2 D edges, more by k D with self-loops. Keys have no class: -1.

    Raises:
      ValueError: if a number is out of its range, or the graph would not fit into memory.
    """
    num_keys = check_count("num_keys", num_keys, 2)
    num_dictionaries = check_count("num_dictionaries", num_dictionaries, 1)
    seed = check_count("seed", seed)
    check_size("num_keys", 16 * num_dictionaries * num_keys**2)
    rng = np.random.default_rng(seed)
    values_dk = rng.permuted(np.tile(np.arange(num_keys), (num_dictionaries, 1)), axis=1)

    first_d = 2 * num_keys * np.arange(num_dictionaries)
    key_dk = first_d[:, None] + np.arange(num_keys)[None]
    query_dk = key_dk + num_keys
    shape = (num_dictionaries, num_keys, num_keys)
    senders = np.broadcast_to(key_dk[:, None, :], shape).ravel()
    receivers = np.broadcast_to(query_dk[:, :, None], shape).ravel()
    if self_loops:
        senders = np.concatenate([senders, query_dk.ravel()])
        receivers = np.concatenate([receivers, query_dk.ravel()])
    return NodeTask(
        f"dictionary_lookup_{num_keys}",
        build.from_edges(senders, receivers, nodes=_features(values_dk)),
        np.concatenate([np.full_like(values_dk, -1), values_dk], axis=1).ravel().astype(np.int32),
    )


def _features(values_dk: Int[np.ndarray, "dictionaries keys"]) -> Float[np.ndarray, "nodes _"]:
    """Return [2 k D, 2 k]: keys one-hot, and beside them values one-hot or, for queries, zeros."""
    num_dictionaries, num_keys = values_dk.shape
    one_hot_kk = np.eye(num_keys, dtype=np.float32)
    nodes = np.zeros((num_dictionaries, 2, num_keys, 2, num_keys), np.float32)
    nodes[:, :, :, 0] = one_hot_kk[None, None]
    nodes[:, 0, :, 1] = one_hot_kk[values_dk]
    return nodes.reshape(-1, 2 * num_keys)


def best_constant_ranking_accuracy(num_keys: int) -> float:
    """Return the best share of right queries where all rank, and read, the keys in one order.

        (1 + 1/2 + ... + 1/k) / k

    It is that of a layer which answers with the value v of the largest alpha_j(v) + b_v: the
    attention that the key of this value gets, and a bias. Attention and bias may be others for each
    query, but they rank the keys in one order. A GAT head does: its score f(c_i + t_j) grows with
    t_j, whoever asks. (Its t_j may depend on the key's value too, and a linear map behind it may
    read a value as more than the attention of its key; this bound leaves out both. With 3 keys such
    a map is right for 12 of 18 queries; the bound is 11 of 18.)

    Proof: look at the query whose key is the r-th of the ranking. To be right it has to beat the
    r - 1 keys before it, which get at least its own attention; so the bias of its value has to be
    above those of their values. Values are in random order, so each of these r values has the
    largest bias with the same probability: the query is right with probability 1/r at most. It
    comes as close to 1/r as it likes by sharing its attention almost evenly among the first r keys,
    with biases that differ by more than these shares do and by less than 1/r. The bound is the mean
    over the ranks.

    If the key that gets most attention is the answer and there is no bias, only the first of the
    ranking is right: 1/k.

    Args:
      num_keys: k, at least 2.

    Raises:
      ValueError: if k is no such number.
    """
    num_keys = check_count("num_keys", num_keys, 2)
    return float(np.mean(1.0 / np.arange(1, num_keys + 1)))
