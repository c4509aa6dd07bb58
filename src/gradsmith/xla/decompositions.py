"""Decompositions by the library of the platform, which never wait for each other.

On CPUs these are calls of LAPACK. jaxlib gives the matrices of a batch to the threads of XLA's
pool. The thread that calls is one of them, and sleeps until they are done. When as many calls as
there are threads do this at the same time, as on two devices and two cores, no thread is left to
work, and the program hangs (seen in jaxlib 0.10.2, `jax::ParallelBatchMap`). A call for one matrix
needs no other thread. So there the matrices of a batch come one after the other, also where
`jax.vmap` makes the batch. LAPACK's threads also wait actively after each call, which slows down
what XLA computes around it: `matrix/qr.py` does without. On accelerators this is not measured.

Singular vectors have no derivative here; what is made of them has one of its own.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float, Inexact

from .arithmetic import adjoint, adjoint_times, matmul
from .targets import current_target


@jax.custom_jvp
def eigh(
    a: Inexact[Array, "*stack n n"],
) -> tuple[Float[Array, "*stack n"], Inexact[Array, "*stack n n"]]:
    """Return eigenvalues, the smallest first, and eigenvectors of Hermitian matrices.

    The derivative of vectors whose eigenvalues are equal is taken for zero.
    """
    return _decompose(lambda x: tuple(jnp.linalg.eigh(x)), a)


@eigh.defjvp
def _(primals: Any, tangents: Any) -> Any:
    values, vectors = eigh(*primals)
    moved = matmul(adjoint_times(vectors, *tangents), vectors)
    gaps = values[..., None, :] - values[..., :, None]
    rotated = jnp.where(gaps == 0, 0.0, moved / jnp.where(gaps == 0, 1.0, gaps).astype(moved.dtype))
    values_moved = jnp.diagonal(moved, axis1=-2, axis2=-1).real
    return (values, vectors), (values_moved, matmul(vectors, rotated))


def svd(
    x: Inexact[Array, "*stack m n"],
) -> tuple[Inexact[Array, "*stack m s"], Float[Array, "*stack s"], Inexact[Array, "*stack s n"]]:
    """Return `u, s, vh` of every matrix, as many singular vectors as there are values."""
    return _decompose(lambda x: tuple(jnp.linalg.svd(x, full_matrices=False)), x)


@jax.custom_jvp
def qr(a: Inexact[Array, "*stack n n"]) -> Inexact[Array, "*stack n n"]:
    """Return the `Q` of the QR decomposition of every matrix.

    In the derivative a zero on the diagonal of `R` is taken for one.
    """
    return _decompose(lambda x: (jnp.linalg.qr(x)[0],), a)[0]


@qr.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (a,), (moved,) = primals, tangents
    q = qr(a)
    r = jnp.triu(adjoint_times(q, a))
    eye = jnp.broadcast_to(jnp.eye(r.shape[-1], dtype=r.dtype), r.shape)
    r = jnp.where((r == 0) & (eye == 1), eye, r)
    x = jax.lax.linalg.triangular_solve(r, adjoint_times(q, moved))  # x r = q^H moved
    below = jnp.tril(x, -1)
    return q, matmul(q, below - adjoint(below) + (x - adjoint(x)) / 2 * eye)


def _decompose(f: Callable, x: Array) -> Any:
    with jax.default_matmul_precision("highest"):
        if current_target().decomposes_batches:
            return f(x)
        *stack, m, n = x.shape
        one = sequential_vmap(f)
        if math.prod(stack) == 1:
            parts = [part[None] for part in one(x.reshape(m, n))]
        else:
            parts = jax.lax.map(one, x.reshape(-1, m, n))
    return tuple(part.reshape(*stack, *part.shape[1:]) for part in parts)
