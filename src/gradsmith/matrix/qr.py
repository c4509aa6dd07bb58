"""The `Q` of a QR decomposition: by the library, or in large products.

The products are those of Householder's reflections. There a matrix comes as the rows of its
adjoint, so that the columns that are reflected lie in one piece. A target says which of the two is
faster (`Target.qr_by_library`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int

from ..xla.arithmetic import adjoint, adjoint_times, matmul, times_adjoint
from ..xla.decompositions import qr
from ..xla.targets import current_target
from ..xla.varying import vary_like

_WIDTHS = (1, 16, 64, 256)
"""So many columns at a time are reflected, those of each width in pieces of the one before."""


def orthonormal(a: Inexact[Array, "*stack n n"]) -> Inexact[Array, "*stack n n"]:
    """Return the `Q` of the QR decomposition of every matrix of `a`.

    `Q` is orthogonal to round-off for any `a`, singular ones included; what is less than 1e-15 of
    the largest entry of its column counts as zero.

    In products it costs `3 n^3` flops of large matrices, up to three times that below 256. The
    diagonal of the upper triangular `R`, which is not returned, may have any sign.

    Args:
        a: Square matrices, any number of leading axes; float32 or wider.

    Examples:
        >>> import jax.numpy as jnp
        >>> from gradsmith import matrix
        >>> q = matrix.orthonormal(jnp.array([[3.0, 1.0], [4.0, 1.0]]))
        >>> print((100 * abs(q)).round())
        [[60. 80.]
         [80. 60.]]

    References:
        Schreiber and Van Loan, A storage-efficient WY representation, 1989; Elmroth and Gustavson,
        Applying recursion to serial and parallel QR factorization, 2000.
    """
    if a.size == 0:
        return a
    # `Q` does not depend on it, so it has no derivative: see `largest_entry`.
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(a)), axis=-2, keepdims=True, initial=0)
    scaled = a / jnp.where(largest == 0, 1, largest).astype(a.dtype)
    return qr(scaled) if current_target().qr_by_library else _q(adjoint(scaled))


def _q(rows: Inexact[Array, "*stack n n"]) -> Inexact[Array, "*stack n n"]:
    n, stack = rows.shape[-1], [(0, 0)] * (rows.ndim - 2)
    if n == 0:
        return rows
    w = min(n, _WIDTHS[-1])
    first = _reflect_all(rows[..., :w, :])
    q = _q(first.undo(rows[..., w:, :]))
    # That is the lower right corner of a matrix, on which these reflections come.
    reflected = jnp.concatenate([first.above, matmul(first.below, q)], axis=-1)
    eye = jnp.broadcast_to(jnp.eye(w, dtype=rows.dtype), first.t.shape)
    corner = jnp.pad(eye, [*stack, (0, n - w), (0, n - w)])
    corner = corner + jnp.pad(q, [*stack, (w, 0), (w, 0)])
    return corner - adjoint_times(first.vh, matmul(first.t, reflected))


class _Reflections(NamedTuple):
    """The product `I - V T V^H` of reflections; it makes some columns upper triangular."""

    vh: Inexact[Array, "*stack w m"]
    t: Inexact[Array, "*stack w w"]

    @property
    def above(self) -> Inexact[Array, "*stack w w"]:
        """Return what acts on the first rows, those of the upper triangle."""
        return self.vh[..., : self.t.shape[-1]]

    @property
    def below(self) -> Inexact[Array, "*stack w p"]:
        """Return what acts on the other rows."""
        return self.vh[..., self.t.shape[-1] :]

    def undo(self, rows: Inexact[Array, "*stack n m"]) -> Inexact[Array, "*stack n p"]:
        """Return the adjoint of the product, times a matrix, below the first rows."""
        seen = matmul(times_adjoint(rows, self.vh), self.t)
        return rows[..., self.t.shape[-1] :] - matmul(seen, self.below)


def _reflect_all(rows: Inexact[Array, "*stack w m"]) -> _Reflections:
    """Return the reflections that make a matrix upper triangular, the first column's first."""
    w, stack = rows.shape[-2], [(0, 0)] * (rows.ndim - 2)
    level = next(level for level, width in enumerate(_WIDTHS) if width >= w)
    missing = -w % _WIDTHS[max(0, level - 1)]  # columns of zeros, which are not reflected
    vh, t = _reflect(jnp.pad(rows, [*stack, (0, missing), (0, 0)]), 0, level)
    return _Reflections(vh[..., :w, :], t[..., :w, :w])


def _reflect(
    rows: Inexact[Array, "*stack w m"], start: int | Int[Array, ""], level: int
) -> _Reflections:
    """Return the reflections of columns, what is above `start` in the first one left out."""
    if level == 0:
        return _reflect_one(rows, start)
    piece = _WIDTHS[level - 1]
    put = jax.lax.dynamic_update_slice_in_dim

    def step(index, done):
        vh, t = done  # of the columns to come, zero
        at = index * piece
        mine = jax.lax.dynamic_slice_in_dim(rows, at, piece, -2)
        mine = mine - matmul(matmul(times_adjoint(mine, vh), t), vh)
        new = _reflect(mine, start + at, level - 1)
        vh = put(vh, new.vh, at, -2)
        column = -matmul(matmul(t, times_adjoint(vh, new.vh)), new.t)
        return _Reflections(vh, put(t, put(column, new.t, at, -2), at, -1))

    w = rows.shape[-2]
    none = _Reflections(jnp.zeros_like(rows), jnp.zeros((*rows.shape[:-1], w), rows.dtype))
    return jax.lax.fori_loop(0, w // piece, step, vary_like(none, rows))


def _reflect_one(rows: Inexact[Array, "*stack 1 m"], start: int | Int[Array, ""]) -> _Reflections:
    """Return the reflection that leaves nothing of a column below `start`; none if nothing is."""
    index = jax.lax.broadcasted_iota(jnp.int32, rows.shape, rows.ndim - 1)
    below = jnp.where(index > start, rows, 0)
    pivot = jax.lax.dynamic_slice_in_dim(rows, start, 1, -1)
    rest, size = times_adjoint(below, below).real, jnp.abs(pivot)
    limits = jnp.finfo(rest.dtype)
    nothing = rest <= limits.tiny / limits.eps
    norm = jnp.sqrt(jnp.where(nothing, 1.0, rest + size * size))  # a root of zero has no derivative
    phase = jnp.where(size == 0, 1, pivot / jnp.where(size == 0, 1, size).astype(pivot.dtype))
    v = jnp.where(index == start, pivot + phase * norm.astype(pivot.dtype), below)
    v = v / jnp.sqrt(norm * (norm + size)).astype(v.dtype)
    return _Reflections(jnp.where(nothing, 0, v), jnp.ones_like(pivot))
