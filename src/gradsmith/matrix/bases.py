"""Eigenbases of symmetric matrices: exactly, or followed by one QR iteration at a time."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int

from .inputs import adjoint

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
    is. It costs as three products of `n x n` matrices, `6.4 n^3` flops. 'eigh' is exact, and a full
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
    product = a @ basis
    order = jnp.argsort(jnp.sum(basis.conj() * product, -2).real, -1, descending=True)
    if method == "eigh":
        return jnp.flip(jnp.linalg.eigh(a)[1], -1), order
    return orthonormal(jnp.take_along_axis(product, order[..., None, :], -1)), order


_PANEL = 128  # columns reduced one by one, between products with the whole matrix
_LOOPS = 4  # over as many panels each, on matrices that shrink in between


def orthonormal(a: Inexact[Array, "*stack n n"]) -> Inexact[Array, "*stack n n"]:
    """Return the `Q` of the QR decomposition of every matrix of `a`.

    Householder's reflections, a panel of 128 at a time: nearly everything is matrix products over
    the whole stack, where LAPACK takes one matrix after the other. `Q` is orthogonal to round-off
    for any `a`, singular ones included.

    Costs `4.4 n^3` flops. The upper triangular `R` is not formed; its diagonal may have any sign.

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
        Schreiber and Van Loan, A storage-efficient WY representation, 1989; the triangular factor
        from `V^T V` by Puglisi, 1992.
    """
    n = a.shape[-1]
    width = min(_PANEL, n)
    if n == 0:
        return a
    largest = jnp.max(jnp.abs(a), axis=(-2, -1), keepdims=True)
    a = a / jnp.where(largest == 0, 1.0, largest).astype(a.dtype)
    rest = jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, -n % width)])
    q = jnp.broadcast_to(jnp.eye(n, dtype=a.dtype), a.shape)

    def reduce_panel(index, carry):
        rest, q = carry
        start = index * width
        panel = jax.lax.dynamic_slice_in_dim(rest, start, width, -1)
        v = _reflectors(panel, start)
        # The product of the reflections is I - V T V^H, with T^-1 the upper triangle of V^H V and
        # half its diagonal; a column without reflection is zero, and gets any pivot.
        gram = adjoint(v) @ v
        diagonal = jnp.diagonal(gram, axis1=-2, axis2=-1)[..., None, :]
        eye = jnp.broadcast_to(jnp.eye(width, dtype=a.dtype), gram.shape)
        inverse = jnp.triu(gram, 1) + jnp.where(diagonal == 0, 1.0, diagonal / 2) * eye
        tail = jax.scipy.linalg.solve_triangular(inverse, adjoint(v), lower=False)
        rest = rest - adjoint(tail) @ (adjoint(v) @ rest)
        return rest, q - (q @ v) @ tail

    # A loop has one shape: so there are a few, and each leaves behind what is done.
    panels = -(-n // width)
    each = -(-panels // _LOOPS)
    done = []
    for first in range(0, panels, each):
        rest, q = jax.lax.fori_loop(0, min(each, panels - first), reduce_panel, (rest, q))
        done.append(q[..., : each * width])
        rest, q = rest[..., each * width :, each * width :], q[..., each * width :]
    return jnp.concatenate(done, axis=-1)


def _reflectors(panel: Inexact[Array, "*stack n b"], start: Int[Array, ""]):
    """Return vectors whose reflections, first column first, make the panel triangular.

    Each has 1 at its pivot: the reflections of a permuted diagonal then are exact, and so is the
    basis of diagonal gradients.
    """
    rows = jax.lax.broadcasted_iota(jnp.int32, panel.shape[:-1], panel.ndim - 2)

    def reflect_column(column, carry):
        panel, vectors = carry
        at_pivot = rows == jnp.asarray(start + column, rows.dtype)
        below = rows > jnp.asarray(start + column, rows.dtype)
        x = jax.lax.dynamic_index_in_dim(panel, column, -1, keepdims=False)
        head = jnp.sum(jnp.where(at_pivot, x, 0.0), -1, keepdims=True)
        x = jnp.where(below, x, 0.0)
        size = jnp.abs(head)
        norm = jnp.sqrt(jnp.square(size) + jnp.sum(jnp.square(jnp.abs(x)), -1, keepdims=True))
        phase = jnp.where(size == 0, 1.0, head / jnp.where(size == 0, 1.0, size).astype(x.dtype))
        new_head = head + phase * norm.astype(x.dtype)
        v = jnp.where(at_pivot, 1.0, x / jnp.where(norm == 0, 1.0, new_head))
        v = jnp.where(norm == 0, 0.0, v)[..., None]
        twice = 2 / (1 + jnp.sum(jnp.square(jnp.abs(jnp.where(below[..., None], v, 0.0))), -2))
        panel = panel - twice[..., None].astype(x.dtype) * v @ (adjoint(v) @ panel)
        return panel, jax.lax.dynamic_update_slice_in_dim(vectors, v, column, -1)

    width = panel.shape[-1]
    return jax.lax.fori_loop(0, width, reflect_column, (panel, jnp.zeros_like(panel)))[1]
