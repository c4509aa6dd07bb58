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

from ..matrix.inputs import adjoint, times_adjoint
from ..matrix.measured import GRAM_BLOCK, LEAST_GRAM_BLOCK, platform
from ..matrix.turns import can_loop, largest_divisor
from .arguments import check_choice

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


def check_sides(owner: str, sides: str, max_side: Any) -> None:
    """Refuse sides that do not exist."""
    check_choice("choice of sides", sides, Sides)
    if not isinstance(max_side, int):
        raise TypeError(
            f"{owner} needs max_side when it is built, for the shape of its state, got {max_side}; "
            f"to inject other numbers: optax.inject_hyperparams(..., static_args=('max_side',))"
        )
    if max_side < 0:
        raise ValueError(f"{owner} needs max_side >= 0, got {max_side}")


def identities(stack: Inexact[Array, "k m n"], sides: Sides, max_side: int, dtype: Any) -> Pair:
    """Return an identity for each side of each matrix that gets a matrix of its own.

    A side longer than `max_side` gets none; 'smaller' is the shorter side, fan-in where they are
    equal.
    """
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
            eye(side) if is_chosen and side <= max_side else None
            for side, is_chosen in zip((m, n), chosen, strict=True)
        )
    )


def rotate(bases: Pair, x: Inexact[Array, "*stack m n"]) -> Inexact[Array, "*stack m n"]:
    """Return `Q^H x P`: `x` in the coordinates of the bases `Q` of fan-in and `P` of fan-out."""
    x = x if bases.fan_in is None else adjoint(bases.fan_in) @ x
    return x if bases.fan_out is None else x @ bases.fan_out


def rotate_back(bases: Pair, x: Inexact[Array, "*stack m n"]) -> Inexact[Array, "*stack m n"]:
    """Return `Q x P^H`; the inverse of `rotate` where `Q` and `P` are orthogonal."""
    x = x if bases.fan_in is None else bases.fan_in @ x
    return x if bases.fan_out is None else x @ adjoint(bases.fan_out)


def with_grams(step: Callable[[Array, Array], Array], factors: Pair, halves: Pair) -> Pair:
    """Return `step(factor, gram)` with the Gram matrices `x x^H` and `y^H y` of two halves `x, y`.

    `step` acts on every element. On CPUs large factors are moved where they are, by blocks, and
    what is above the diagonal is not computed again.
    """
    x, y = halves
    return Pair(
        None if factors.fan_in is None else _with_gram(step, factors.fan_in, x),
        None if factors.fan_out is None else _with_gram(step, factors.fan_out, adjoint(y)),
    )


def _with_gram(
    step: Callable[[Array, Array], Array],
    factor: Inexact[Array, "k n n"],
    x: Inexact[Array, "k n p"],
) -> Inexact[Array, "k n n"]:
    n = factor.shape[-1]
    side = largest_divisor(n, GRAM_BLOCK[platform()])
    if n <= side or side < LEAST_GRAM_BLOCK or not can_loop(step, factor, factor):
        return step(factor, times_adjoint(x, x))
    below = jnp.asarray(np.argwhere(np.tri(n // side, k=-1)), jnp.int32) * side
    rows = lambda start: jax.lax.dynamic_slice_in_dim(x, start, side, -2)

    def move(factor, gram, i, j):
        start = (jnp.zeros_like(i), i, j)  # of one dtype, which is not that of 0 in 64 bits
        old = jax.lax.dynamic_slice(factor, start, gram.shape)
        return jax.lax.dynamic_update_slice(factor, step(old, gram), start)

    def move_on_diagonal(index, factor):
        i = index * side
        return move(factor, times_adjoint(rows(i), rows(i)), i, i)

    def move_two(index, factor):
        i, j = below[index]
        gram = times_adjoint(rows(i), rows(j))
        return move(move(factor, gram, i, j), adjoint(gram), j, i)

    factor = jax.lax.fori_loop(0, n // side, move_on_diagonal, factor)
    return jax.lax.fori_loop(0, len(below), move_two, factor)
