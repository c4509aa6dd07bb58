"""Products of matrices that say their precision."""

import jax.numpy as jnp
from jaxtyping import Array, Inexact


def adjoint(x: Inexact[Array, "*stack m n"]) -> Inexact[Array, "*stack n m"]:
    """Return the conjugate transpose of every matrix."""
    return x.mT.conj()


def matmul(x: Inexact[Array, "*stack m n"], y: Inexact[Array, "*stack n p"]) -> Array:
    """Return `x @ y` without the shortcuts of accelerators.

    TPUs and GPUs multiply float32 in bfloat16 or TF32 unless told otherwise, which leaves a Gram
    matrix with negative eigenvalues that an iteration blows up.
    """
    return jnp.matmul(x, y, precision="highest")


def times_adjoint(x: Inexact[Array, "*stack m p"], y: Inexact[Array, "*stack n p"]) -> Array:
    """Return `x @ y^H`, with the precision of `matmul`, and without a transposed copy.

    XLA on CPU makes one of `y.mT` where the stack is of one matrix; not where the product is
    written over the axes as they are.
    """
    return jnp.einsum("...ij,...kj->...ik", x, y.conj(), precision="highest")


def adjoint_times(x: Inexact[Array, "*stack p m"], y: Inexact[Array, "*stack p n"]) -> Array:
    """Return `x^H @ y`, otherwise as `times_adjoint`."""
    return jnp.einsum("...ji,...jk->...ik", x.conj(), y, precision="highest")
