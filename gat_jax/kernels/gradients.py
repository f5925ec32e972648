"""How a sum is wired to its gradient, and how `vmap` folds what it maps into the heads.

`with_gradient` is the one place where this is done; `docs/gradients.md` draws it and says why each
layer is there and what breaks without it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from gat_jax.kernels import contract
from gat_jax.kernels.layouts import Layout


def with_gradient(forward: Callable, backward: Callable) -> Callable:
    """Return a function of (layout, inputs, mask) with a gradient of its own.

    On the edge list it is `forward` alone, which JAX differentiates as it likes: there are forward
    mode and second derivatives. On tables JAX would turn what was fetched into scatters, so there
    `backward` is the gradient; it exists once, and only in reverse mode.

    Args:
      forward: of (layout, inputs, mask), returns the result and whatever else `backward` needs.
      backward: of (layout, inputs, mask, what else `forward` returned, the result's gradient),
        returns that of the inputs, None where there is none.

    All arrays but the layout's have to end in an axis of heads, which share nothing: `vmap` folds
    the axis that it maps into it. `inputs` is any pytree; `mask` is an array of booleans or None,
    to which no gradient flows.

    Raises:
      NotImplementedError: by the function, on tables, where it is differentiated twice. Forward
        mode there is refused by JAX itself, with a TypeError.
    """
    folded_forward, folded_backward = fold_heads(forward), fold_heads(backward)

    @jax.custom_vjp
    def on_tables(layout, inputs, mask):
        return folded_forward(layout, inputs, mask)[0]

    def save(layout, inputs, mask):
        result, saved = folded_forward(layout, inputs, mask)
        return result, (layout, inputs, mask, saved)

    def pull_back(residuals, gradient):
        layout, inputs, mask, saved = residuals
        d_inputs = folded_backward(layout, inputs, mask, saved, gradient)
        return None, _in_dtypes_of(inputs, d_inputs), None

    on_tables.defvjp(save, pull_back)

    def function(layout: Layout, inputs: Any, mask: Any = None) -> Any:
        if contract.is_edge_list(layout.by_receiver):
            return forward(layout, inputs, mask)[0]
        return on_tables(layout, inputs, mask)

    return function


def without_gradient(function: Callable) -> Callable:
    """Return a function as `with_gradient` does, but one through which no gradient flows."""
    folded = fold_heads(function)

    def call(layout: Layout, inputs: Any, mask: Any = None) -> Any:
        inputs = jax.lax.stop_gradient(inputs)
        if contract.is_edge_list(layout.by_receiver):
            return function(layout, inputs, mask)
        return folded(layout, inputs, mask)

    return call


def _in_dtypes_of(primals: Any, gradients: Any) -> Any:
    """Return gradients in the dtypes of what they are gradients of; None stays None."""
    return jax.tree.map(lambda x, g: g.astype(x.dtype), primals, gradients)


def fold_heads(function: Callable) -> Callable:
    """Let `vmap` fold the mapped axis into the heads, the last axis of all arrays but the layout's.

    R mapped runs of H heads become one call with R H heads: longer vectors in the same loops, and
    no kernel or loop has to know of a mapped axis. A mapped layout, one graph per run, is mapped in
    the usual way. The function is compiled as a whole: its loops are closures, new with every call,
    and outside of `jit` each would compile again. It is part of a function with a gradient of its
    own; what would differentiate it a second time is refused in words.
    """
    function = jax.jit(function)
    mapped = custom_vmap(function)

    @mapped.def_vmap
    def rule(size: int, in_batched, layout, *arrays):
        is_batched: Any = tuple(in_batched[1:])
        if any(jax.tree.leaves(in_batched[0])):
            axes = jax.tree.map(lambda b: 0 if b else None, in_batched)
            out = jax.vmap(function, in_axes=tuple(axes), axis_size=size)(layout, *arrays)
        else:
            folded = jax.tree.map(lambda b, x: _fold(b, x, size), is_batched, arrays)
            out = jax.tree.map(lambda x: _unfold(x, size), mapped(layout, *folded))
        return out, jax.tree.map(lambda _: True, out)

    once_differentiable = jax.custom_jvp(mapped)
    once_differentiable.defjvp(_refuse_derivatives)
    return once_differentiable


def _fold(is_batched: bool, x: Any, size: int) -> Any:
    """Return [R, ..., H] as [..., R H]; what is not mapped is repeated for every run."""
    x = x if is_batched else jnp.broadcast_to(x[None], (size, *x.shape))
    x = jnp.moveaxis(x, 0, -2)
    return x.reshape(*x.shape[:-2], -1)


def _unfold(x: Any, size: int) -> Any:
    """Undo `_fold`."""
    return jnp.moveaxis(x.reshape(*x.shape[:-1], size, -1), -2, 0)


def _refuse_derivatives(*_):
    raise NotImplementedError(
        "second derivatives: expected layout 'segment', which alone has them, got one with tables"
    )
