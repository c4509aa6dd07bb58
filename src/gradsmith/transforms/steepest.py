"""Scion's norms for embeddings and heads: the step of norm one that goes down fastest."""

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact

from ..layout.declare import Axes, matrix_leaves
from ..xla.dtypes import wide_dtype
from ..xla.trace_once import trace_once
from .arguments import check_choice, check_not_negative
from .averages import root
from .sides import stands

UnitNorm = Literal["in", "out", "sign"]


def steepest_step(
    norm: UnitNorm, radius: ArrayLike = 1.0, *, axes: Axes = None
) -> optax.GradientTransformation:
    """Replace every matrix by the steepest one of a norm: nothing but lengths or signs.

    Of all matrices `L` up to `radius` in a norm it is the one with the largest inner product
    `<G, L>`. For a matrix `(m, n)` of fan-in `m` and fan-out `n`:

    | norm | the update | Scion's name | meant for |
    |---|---|---|---|
    | `in` | every row over its root mean square | ColNorm | embeddings: a row is a token |
    | `out` | every column over its norm, over `sqrt(m)` | RowNorm | heads |
    | `sign` | the sign of every entry, over `m` | Sign | heads |

    The fourth norm, the spectral one, is `orthogonalize` with `match_operator_norm`. A row or
    column of zeros stays zero.

    A direction: stands before the learning rate. No state. On a mesh only sums travel.

    Args:
        norm: One of the three.
        radius: What the norm of an update is.
        axes: Which axes of which leaf are fan-in, fan-out and stack; see `per_stack`. Cuts are not
            seen.

    Raises:
        ValueError: No norm has that name, or the radius is negative; at `init`, where a leaf is no
            matrix.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> table = {"table": jnp.array([[6.0, -6.0], [0.0, 0.0]])}
        >>> tx = gs.steepest_step("in")
        >>> print(tx.update(table, tx.init(table))[0]["table"].round(3))
        [[ 1. -1.]
         [ 0.  0.]]

    References:
        Pethick et al., Scion, 2025, arXiv:2502.07529 and https://github.com/LIONS-EPFL/scion, whose
        matrices are `(out, in)`.
    """
    check_choice("norm", norm, UnitNorm)
    check_not_negative("steepest_step", radius=radius)

    def init_fn(params: Any) -> optax.EmptyState:
        matrix_leaves(axes, params)  # what is no matrix is refused here
        return optax.EmptyState()

    def update_fn(updates: Any, state: Any, params: Any = None) -> Any:
        del params
        step_along = functools.cache(  # one function for all leaves of the same axes
            lambda rows, columns: trace_once(lambda x: step(x, rows, columns))
        )
        steps = []
        for leaf in matrix_leaves(axes, updates):
            _, rows, columns = leaf.axes.sides(leaf.array.ndim)
            steps.append(step_along(rows, columns)(leaf.array))
        return jax.tree.unflatten(jax.tree.structure(updates), steps), state

    def step(x: Array, rows: tuple[int, ...], columns: tuple[int, ...]) -> Array:
        size = lambda axes: math.prod(x.shape[axis] for axis in axes)
        wide = x.astype(wide_dtype(x.dtype))
        scale = jnp.asarray(radius, wide.dtype)
        if norm == "sign":
            unit = jnp.sign(wide) / max(1, size(rows))
        elif norm == "in":
            unit = _over_length(wide, columns) * math.sqrt(size(columns))
        else:
            unit = _over_length(wide, rows) / math.sqrt(max(1, size(rows)))
        return (scale * unit).astype(x.dtype)

    tx = optax.GradientTransformation(init_fn, update_fn)
    return stands("direction", "steepest_step", tx)


def _over_length(x: Inexact[Array, "..."], axes: tuple[int, ...]) -> Inexact[Array, "..."]:
    """Return `x` over its norms along these axes, in units of its largest entry on the way."""
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), initial=0.0)
    x = x / jnp.where(largest == 0, 1.0, largest).astype(x.dtype)
    norm = root(jnp.sum(jnp.square(jnp.abs(x)), axes, keepdims=True))
    return x / jnp.where(norm == 0, 1.0, norm).astype(x.dtype)
