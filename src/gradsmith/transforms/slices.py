"""The largest rows or columns of the matrices of a stack, and how they go back to their places."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact

Stack = Inexact[Array, "k _ _"]
Chosen = Bool[Array, "k slices"]


def shape_of_largest(shape: tuple[int, ...], whole: int, fraction: float) -> tuple[int, ...]:
    """Return the shape of the chosen part; `fraction` of 30 by 0.1 is 3, rounding aside."""
    count = min(shape[whole], max(1, math.ceil(round(fraction * shape[whole], 6))))
    return (*shape[:whole], count, *shape[whole + 1 :])


def largest_slices(stack: Stack, whole: int, fraction: float) -> tuple[Stack, Chosen]:
    """Return the largest slices in their order, and which they are."""
    count = shape_of_largest(stack.shape, whole, fraction)[whole]
    sizes = jnp.sum(jnp.abs(stack), axis=3 - whole)
    indices = jnp.sort(jax.lax.top_k(sizes, count)[1], axis=-1)
    mark = jax.vmap(lambda nothing, some: nothing.at[some].set(True))(sizes < 0, indices)
    part = jnp.take_along_axis(stack, jnp.expand_dims(indices, 3 - whole), axis=whole)
    return part, mark


def at_their_places(part: Stack, mark: Chosen, whole: int) -> Stack:
    """Return whole matrices with the chosen slices where they were, and zeros."""
    place = jnp.maximum(jnp.cumsum(mark, axis=-1) - 1, 0)
    full = jnp.take_along_axis(part, jnp.expand_dims(place, 3 - whole), axis=whole)
    return jnp.where(jnp.expand_dims(mark, 3 - whole), full, jnp.zeros_like(full))
