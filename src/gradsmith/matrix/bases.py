"""Eigenbases of symmetric matrices: exactly, or followed by one QR iteration at a time."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int

from .inputs import adjoint, adjoint_times, matmul, times_adjoint
from .measured import platform

Refresh = Literal["qr", "eigh"]


def follow_basis(
    a: Inexact[Array, "*stack n n"],
    basis: Inexact[Array, "*stack n n"],
    method: Refresh = "qr",
) -> tuple[Inexact[Array, "*stack n n"], Int[Array, "*stack n"]]:
    """Turn an old basis into, or towards, the eigenbasis of `a`.

    Sorts the columns of `basis` by their Rayleigh quotients `q^H a q`, largest first. Then 'qr' is
    one step of orthogonal iteration: multiplies them by `a` and makes the products orthonormal,
    each by those before it. Repeated for a fixed `a` it converges to the eigenbasis, the subspace
    of the first `i` vectors by `lambda_(i+1) / lambda_i` a step, and the eigenbasis stays where it
    is. It costs as three products of `n x n` matrices, `5 n^3` flops. 'eigh' is exact, and a full
    decomposition that is hardly parallel.

    Args:
        a: Symmetric or Hermitian positive semidefinite matrices; float32 or wider.
        basis: Orthogonal matrices of the same shape and dtype.
        method: 'qr' or 'eigh'.

    Returns:
        The new basis, and the order in which the old columns were taken: what belongs to column
        `order[j]` of `basis` belongs to column `j` of the new one.

    Examples:
        >>> import jax.numpy as jnp
        >>> from gradsmith import matrix
        >>> a, basis = jnp.array([[2.0, 1.0], [1.0, 3.0]]), jnp.eye(2)
        >>> for _ in range(20):
        ...     basis, order = matrix.follow_basis(a, basis)
        >>> print((100 * abs(basis.T @ a @ basis)).round())
        [[362.   0.]
         [  0. 138.]]

    References:
        Wang et al., 4-bit Shampoo, 2024, arXiv:2405.18144; Vyas et al., SOAP, 2024,
        arXiv:2409.11321.
    """
    rows = adjoint_times(basis, a)  # what LAPACK takes as columns
    order = jnp.argsort(jnp.sum(rows * basis.mT, -1).real, -1, descending=True)
    if method == "eigh":
        return jnp.flip(jnp.linalg.eigh(a)[1], -1), order
    rows = jnp.take_along_axis(rows, order[..., :, None], -2)
    return orthonormal(adjoint(rows)), order


_BLOCK = 384
"""So many columns are reduced between two products with all that is left of a matrix."""
_LEAF = 192
"""Panels of at most so many columns are LAPACK's."""


def orthonormal(a: Inexact[Array, "*stack n n"]) -> Inexact[Array, "*stack n n"]:
    """Return the `Q` of the QR decomposition of every matrix of `a`.

    Householder's reflections, in blocks: `jnp.linalg.qr` reduces panels of up to 192 columns, and
    all else is products of large matrices. `Q` is orthogonal to round-off for any `a`, singular
    ones included.

    Costs `3 n^3` flops. The upper triangular `R` is not formed; its diagonal may have any sign.

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
    if a.ndim > 2 and platform() == "cpu":
        # One by one: two batched calls of LAPACK at a time take the threads that each waits for
        # (seen in JAX 0.10.2; so do `cholesky` and `solve_triangular`).
        return jax.lax.map(orthonormal, a)
    return _q(adjoint(a))


# Below, a matrix comes as the rows of its adjoint: LAPACK's columns then are where they should be.


def _q(rows: Inexact[Array, "*stack n n"]) -> Inexact[Array, "*stack n n"]:
    rest, stack = rows.shape[-1] - _BLOCK, [(0, 0)] * (rows.ndim - 2)
    if rest <= 0:
        return jnp.linalg.qr(adjoint(rows))[0]
    first = _reflect(rows[..., :_BLOCK, :])
    q = _q(first.undo(rows[..., _BLOCK:, :]))
    # That is the lower right corner of a matrix, on which these reflections come.
    turned = jnp.concatenate([first.above, matmul(first.below, q)], axis=-1)
    corner = jnp.pad(_eye(first.t), [*stack, (0, rest), (0, rest)])
    corner = corner + jnp.pad(q, [*stack, (_BLOCK, 0), (_BLOCK, 0)])
    return corner - adjoint_times(first.vh, matmul(first.t, turned))


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


def _reflect(rows: Inexact[Array, "*stack w m"]) -> _Reflections:
    """Return the reflections that make a matrix upper triangular, the first column's first."""
    w = rows.shape[-2]
    if w <= _LEAF:
        transposed, tau = jnp.linalg.qr(adjoint(rows), mode="raw")
        there = tau[..., None] != 0  # else a column that is as it should be is not reflected
        vh = jnp.where(there, jnp.triu(transposed.conj(), 1) + _eye(transposed), 0)
        between = times_adjoint(vh, vh)
        inverse = jnp.triu(between, 1) + _eye(between) / jnp.where(there, tau[..., None], 1)
        return _Reflections(vh, jax.scipy.linalg.solve_triangular(inverse, _eye(between)))
    h = w // 2
    first = _reflect(rows[..., :h, :])
    then = _reflect(first.undo(rows[..., h:, :]))
    sides = [(0, 0)] * (rows.ndim - 1) + [(h, 0)]
    vh = jnp.concatenate([first.vh, jnp.pad(then.vh, sides)], axis=-2)
    between = matmul(matmul(first.t, times_adjoint(first.below, then.vh)), then.t)
    above = jnp.concatenate([first.t, -between], axis=-1)
    return _Reflections(vh, jnp.concatenate([above, jnp.pad(then.t, sides)], axis=-2))


def _eye(like: Inexact[Array, "*stack m n"]) -> Inexact[Array, "*stack m n"]:
    return jnp.broadcast_to(jnp.eye(*like.shape[-2:], dtype=like.dtype), like.shape)
