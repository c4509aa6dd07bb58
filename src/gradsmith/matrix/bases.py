"""Eigenbases of symmetric matrices: exactly, or followed by one QR iteration at a time."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int

from ..xla.arithmetic import adjoint, adjoint_times
from ..xla.decompositions import eigh
from .qr import orthonormal

Refresh = Literal["qr", "qr_unsorted", "eigh"]


def follow_basis(
    a: Inexact[Array, "*stack n n"],
    basis: Inexact[Array, "*stack n n"],
    method: Refresh = "qr",
) -> tuple[Inexact[Array, "*stack n n"], Int[Array, "*stack n"]]:
    """Turn an old basis into, or towards, the eigenbasis of `a`.

    'qr' sorts the columns of `basis` by their Rayleigh quotients `q^H a q`, largest first. Then it
    makes one step of orthogonal iteration: it multiplies them by `a` and makes the products
    orthonormal, each by those before it. Repeated for a fixed `a` it converges to the eigenbasis:
    the subspace of the first `i` vectors by the factor `lambda_(i+1) / lambda_i` a step. The
    eigenbasis itself does not change. A step costs `5 n^3` flops, about three products of `n x n`
    matrices. 'qr_unsorted' is the same without the sorting: every column keeps its place. 'eigh' is
    exact. It is a full decomposition, which is hardly parallel.

    Args:
        a: Symmetric or Hermitian positive semidefinite matrices; float32 or wider.
        basis: Orthogonal matrices of the same shape and dtype.
        method: 'qr', 'qr_unsorted' or 'eigh'.

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
    rows = adjoint_times(basis, a)
    if method == "qr_unsorted":
        places = jnp.arange(a.shape[-1], dtype=jnp.int32)
        return orthonormal(adjoint(rows)), jnp.broadcast_to(places, a.shape[:-1])
    order = jnp.argsort(jnp.sum(rows * basis.mT, -1).real, -1, descending=True)
    if method == "eigh":
        return jnp.flip(eigh(a)[1], -1), order
    rows = jnp.take_along_axis(rows, order[..., :, None], -2)
    return orthonormal(adjoint(rows)), order
