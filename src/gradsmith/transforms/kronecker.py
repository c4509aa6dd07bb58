"""A matrix a side: what SOAP, Shampoo and their kin have in common.

They keep one symmetric matrix for the fan-in of every weight and one for its fan-out, and multiply
a gradient by something made of each. Here is the pair, the multiplication, and the statistics.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from ..xla.arithmetic import adjoint, adjoint_times, matmul, times_adjoint
from ..xla.chunks import can_loop, largest_divisor
from ..xla.targets import current_target
from .arguments import check_choice, check_fixed

Sides = Literal["both", "fan_in", "fan_out", "smaller"]


class Pair(NamedTuple):
    """Something for each side of the matrices `(m, n)` of a stack; None where a side has none."""

    fan_in: Any
    fan_out: Any


def each_side(function: Callable[..., Any], *pairs: Pair) -> Pair:
    """Apply `function` to both sides; a side that has none keeps none."""
    return Pair(
        *(
            None if first is None else function(first, *rest)
            for first, *rest in zip(*pairs, strict=True)
        )
    )


def check_sides(owner: str, sides: str, max_side: int | None) -> None:
    """Refuse sides that do not exist."""
    check_choice("choice of sides", sides, Sides)
    check_fixed(owner, max_side=max_side)
    if max_side is not None and max_side < 0:
        raise ValueError(f"{owner} needs max_side >= 0, got {max_side}")


def identities(
    stack: Inexact[Array, "k m n"], sides: Sides, max_side: int | None, dtype: Any
) -> Pair:
    """Return an identity for each side of each matrix that gets a matrix of its own.

    A side longer than `max_side`, by default 10,000, gets none; 'smaller' is the shorter side,
    fan-in where they are equal.
    """
    longest = 10_000 if max_side is None else max_side
    k, m, n = stack.shape
    chosen = {
        "both": (True, True),
        "fan_in": (True, False),
        "fan_out": (False, True),
        "smaller": (m <= n, m > n),
    }[sides]
    eye = lambda side: jnp.broadcast_to(jnp.eye(side, dtype=dtype), (k, side, side))
    return Pair(
        *(
            eye(side) if is_chosen and side <= longest else None
            for side, is_chosen in zip((m, n), chosen, strict=True)
        )
    )


def rotate(bases: Pair, x: Inexact[Array, "*stack m n"]) -> Inexact[Array, "*stack m n"]:
    """Return `Q^H x P`: `x` in the coordinates of the bases `Q` of fan-in and `P` of fan-out."""
    x = x if bases.fan_in is None else adjoint_times(bases.fan_in, x)
    return x if bases.fan_out is None else matmul(x, bases.fan_out)


def rotate_back(bases: Pair, x: Inexact[Array, "*stack m n"]) -> Inexact[Array, "*stack m n"]:
    """Return `Q x P^H`; the inverse of `rotate` where `Q` and `P` are orthogonal."""
    x = x if bases.fan_in is None else matmul(bases.fan_in, x)
    return x if bases.fan_out is None else times_adjoint(x, bases.fan_out)


def with_grams(step: Callable[[Array, Array], Array], factors: Pair, halves: Pair) -> Pair:
    """Return `step(factor, gram)` with the Gram matrices `x x^H` and `y^H y` of two halves `x, y`.

    `step` acts on every element. Where the target has a `gram_block`, large factors are moved where
    they are, by blocks of that size, and what is above the diagonal is not computed again.
    """
    x, y = halves
    return Pair(
        None if factors.fan_in is None else _with_gram(step, factors.fan_in, x, -2),
        None if factors.fan_out is None else _with_gram(step, factors.fan_out, y, -1),
    )


def _with_gram(
    step: Callable[[Array, Array], Array],
    factor: Inexact[Array, "k n n"],
    x: Inexact[Array, "k _ _"],
    axis: Literal[-2, -1],
) -> Inexact[Array, "k n n"]:
    product = times_adjoint if axis == -2 else adjoint_times
    k, n, _ = factor.shape
    target = current_target()
    side = largest_divisor(n, target.gram_block)
    if n <= side or side < target.least_gram_block or not can_loop(step, factor, factor):
        return step(factor, product(x, x))

    def starts(mask):  # where the blocks under the mask start, matrix by matrix
        blocks = np.argwhere(np.broadcast_to(mask, (k, n // side, n // side)))
        return jnp.asarray(blocks * (1, side, side), jnp.int32)

    def part(index, start):
        one = jax.lax.dynamic_slice_in_dim(x, index, 1, 0)
        return jax.lax.dynamic_slice_in_dim(one, start, side, axis)

    def move(factor, gram, *start):
        old = jax.lax.dynamic_slice(factor, start, gram.shape)
        return jax.lax.dynamic_update_slice(factor, step(old, gram), start)

    def move_one(number, factor):
        index, i, _ = diagonal[number]
        return move(factor, product(part(index, i), part(index, i)), index, i, i)

    def move_two(number, factor):
        index, i, j = below[number]
        gram = product(part(index, i), part(index, j))
        return move(move(factor, gram, index, i, j), adjoint(gram), index, j, i)

    diagonal, below = starts(np.eye(n // side)), starts(np.tri(n // side, k=-1))
    factor = jax.lax.fori_loop(0, len(diagonal), move_one, factor)
    return jax.lax.fori_loop(0, len(below), move_two, factor)
