"""Norms that neither overflow nor underflow on the way."""

import jax.numpy as jnp
from jaxtyping import Array, Inexact


def unit_frobenius(
    x: Inexact[Array, "*stack m n"], *, eps: float | Array = 0.0
) -> Inexact[Array, "*stack m n"]:
    """Return every matrix of `x` divided by `eps` plus its Frobenius norm; zero stays zero.

    Divides by the largest entry first: the squares of 1e-30 and of 1e30 are not float32 numbers.
    """
    largest = jnp.max(jnp.abs(x), axis=(-2, -1), keepdims=True, initial=0.0)
    nonzero = jnp.where(largest == 0, 1.0, largest)
    scaled = x / nonzero.astype(x.dtype)
    norm = jnp.sqrt(jnp.sum(jnp.square(jnp.abs(scaled)), axis=(-2, -1), keepdims=True))
    return scaled / (jnp.where(norm == 0, 1.0, norm) + eps / nonzero).astype(x.dtype)
