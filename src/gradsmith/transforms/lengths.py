"""Lengths of matrices and of their columns, in a stack; what is zero stays zero."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from ..matrix.norms import largest_entry
from .averages import root

Stack = Inexact[Array, "k m n"]

MATRIX = (-2, -1)
"""The axes to sum over for the Frobenius norm of each matrix."""
NEURON = (-2,)
"""The same for the norm of each column, `(fan_in,)`: the weights of an output unit."""


def length(x: Stack, axes: tuple[int, ...] = MATRIX) -> Float[Array, "k _ _"]:
    """Return the norm of every matrix or column, in units of the largest entry on the way."""
    unit = largest_entry(x)
    return unit * root(jnp.sum(jnp.square(jnp.abs(x / unit.astype(x.dtype))), axes, keepdims=True))


def over_length(
    x: Stack, axes: tuple[int, ...] = MATRIX, least: float = 0.0
) -> Inexact[Array, "k m n"]:
    """Return every matrix or column over its norm, or over `least` where the norm is smaller."""
    norm = jnp.maximum(length(x, axes), least)
    return x / jnp.where(norm == 0, 1.0, norm).astype(x.dtype)


def with_norm_of(like: Stack, x: Stack) -> Inexact[Array, "k m n"]:
    """Return every matrix of `x` at the Frobenius norm of that of `like`."""
    return over_length(x) * length(like).astype(x.dtype)


def inner(x: Stack, y: Stack) -> Float[Array, "k 1 1"]:
    """Return the inner product of every two matrices, its real part."""
    return jnp.sum((x * y.conj()).real, axis=MATRIX, keepdims=True)
