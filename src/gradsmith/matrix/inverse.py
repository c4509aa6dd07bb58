"""Inverses of positive definite matrices, almost all of it in matrix products.

`a = l l^H` by blocks, and `a^-1 = m^H m` with `m = l^-1`, which is what the recursion carries: only
blocks of up to 48 are eliminated column by column. Forming the inverse of a block instead of its
factor would take fewer products and is unstable.

No pivot of a matrix whose eigenvalues are at least `floor` is below `floor`. Where rounding says
otherwise, `floor` is right: so pivots are lifted to it, and nothing indefinite gives a NaN.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact

from ..xla.arithmetic import adjoint, adjoint_times, matmul, times_adjoint

LEAF = 48
"""Blocks of at most this size are eliminated; 24 to 48 are equally fast, 64 slower by a quarter."""


def inverse(a: Inexact[Array, "*stack n n"], floor: ArrayLike) -> Inexact[Array, "*stack n n"]:
    """Return the inverse of every matrix of `a`, all of whose eigenvalues are at least `floor`.

    `floor` is one number, or as many as broadcast against `(*stack, 1, 1)`.

    Costs `2 n^3` flops a matrix.
    """
    return _square(inverse_factor(a, floor))


def inverse_factor(
    a: Inexact[Array, "*stack n n"], floor: ArrayLike
) -> Inexact[Array, "*stack n n"]:
    """Return the lower triangular `m` with `m a m^H = I`, for `a` as in `inverse`."""
    n = a.shape[-1]
    if n <= LEAF:
        return _eliminate(a, floor)
    h = n // 2
    top = inverse_factor(a[..., :h, :h], floor)
    side = times_adjoint(a[..., h:, :h], top)
    bottom = inverse_factor(a[..., h:, h:] - times_adjoint(side, side), floor)
    return _blocks(top, None, -matmul(matmul(bottom, side), top), bottom)


def _eliminate(a: Inexact[Array, "*stack n n"], floor: ArrayLike) -> Inexact[Array, "*stack n n"]:
    """Eliminate column after column of `[a | I]`; the columns that are done keep those of `I`."""
    index = jnp.arange(a.shape[-1])
    rows = jnp.broadcast_to(index[:, None], a.shape)
    columns = jnp.broadcast_to(index, a.shape)

    def body(j, work):
        column = jax.lax.dynamic_slice_in_dim(work, j, 1, axis=-1)
        pivot = jax.lax.dynamic_slice_in_dim(column, j, 1, axis=-2).real
        root = jax.lax.rsqrt(jnp.maximum(pivot, jnp.asarray(floor, pivot.dtype))).astype(work.dtype)
        row = jax.lax.dynamic_slice_in_dim(work, j, 1, axis=-2) * root
        row = jnp.where(columns[..., :1, :] == j, root, row)
        below = rows > j
        kept = jnp.where(below & (columns == j), 0, work)
        step = kept - jnp.where(below, column * root, 0) * row
        return jnp.where(rows == j, row, step)

    return jnp.tril(jax.lax.fori_loop(0, a.shape[-1], body, a))


def _square(m: Inexact[Array, "*stack n n"]) -> Inexact[Array, "*stack n n"]:
    """Return `m^H m` of a lower triangular `m`, without most of its zeros."""
    n = m.shape[-1]
    if n <= 4 * LEAF:
        return adjoint_times(m, m)
    h = n // 2
    top, side, bottom = m[..., :h, :h], m[..., h:, :h], m[..., h:, h:]
    corner = adjoint_times(bottom, side)
    first = _square(top) + adjoint_times(side, side)
    return _blocks(first, adjoint(corner), corner, _square(bottom))


def _blocks(top: Array, right: Array | None, left: Array, bottom: Array) -> Array:
    right = jnp.zeros_like(left).mT if right is None else right
    above = jnp.concatenate([top, right], axis=-1)
    return jnp.concatenate([above, jnp.concatenate([left, bottom], axis=-1)], axis=-2)
