"""A matrix a side: what SOAP, Shampoo and their kin have in common.

They keep one symmetric matrix for the fan-in of every weight and one for its fan-out, and multiply
a gradient by something made of each. Here is the pair, the multiplication, and the statistics.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Inexact

from ..matrix.inputs import adjoint
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


def check_sides(owner: str, sides: str, max_side: int) -> None:
    """Refuse sides that do not exist."""
    check_choice("choice of sides", sides, Sides)
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


def rotate(bases: Pair, x: Inexact[Array, "k m n"]) -> Inexact[Array, "k m n"]:
    """Return `Q^H x P`: `x` in the coordinates of the bases `Q` of fan-in and `P` of fan-out."""
    x = x if bases.fan_in is None else adjoint(bases.fan_in) @ x
    return x if bases.fan_out is None else x @ bases.fan_out


def rotate_back(bases: Pair, x: Inexact[Array, "k m n"]) -> Inexact[Array, "k m n"]:
    """Return `Q x P^H`; the inverse of `rotate` where `Q` and `P` are orthogonal."""
    x = x if bases.fan_in is None else bases.fan_in @ x
    return x if bases.fan_out is None else x @ adjoint(bases.fan_out)


def grams(like: Pair, x: Inexact[Array, "k m n"]) -> Pair:
    """Return `x x^H` and `x^H x`, for the sides that `like` has."""
    return Pair(
        None if like.fan_in is None else x @ adjoint(x),
        None if like.fan_out is None else adjoint(x) @ x,
    )
