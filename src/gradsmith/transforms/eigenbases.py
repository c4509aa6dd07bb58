"""Bases that follow the eigenvectors of factors, for SOAP and what is whitened in its basis."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact

from ..matrix.bases import Refresh, follow_basis
from .kronecker import Pair, each_side

Start = Literal["identity", "eigh"]
State = TypeVar("State", bound=Any)


def refresh_when_due(
    state: State,
    every: ArrayLike,
    refresh: Refresh,
    start: Start,
    rotated: Callable[[State, Refresh], State],
) -> State:
    """Return `rotated(state, refresh)` if new bases are due after the step before, else the state.

    The first follow the first step, exactly where the start is 'eigh'. They are not made at the end
    of a step: its update has read the old ones, and XLA would copy them in every step, due or not.
    """
    last = state.step - 1
    due = (last >= 0) & (jax.lax.rem(last, jnp.asarray(every, last.dtype)) == 0)
    later = lambda state: jax.lax.cond(due, lambda s: rotated(s, refresh), lambda s: s, state)
    if start == "identity" or refresh == "eigh":
        return later(state)
    return jax.lax.cond(last == 0, lambda s: rotated(s, "eigh"), later, state)


def follow_factors(
    factors: Pair, refresh: Refresh, bases: Pair, mean_square: Inexact[Array, "*stack m n"]
) -> tuple[Pair, Inexact[Array, "*stack m n"]]:
    """Return bases that follow the factors, and the mean square with its entries in their order."""
    followed = each_side(lambda a, q: follow_basis(a, q, refresh), factors, bases)
    new = each_side(lambda pair: pair[0], followed)
    orders = each_side(lambda pair: pair[1], followed)
    if orders.fan_in is not None:
        mean_square = jnp.take_along_axis(mean_square, orders.fan_in[..., :, None], -2)
    if orders.fan_out is not None:
        mean_square = jnp.take_along_axis(mean_square, orders.fan_out[..., None, :], -1)
    return new, mean_square


def not_copied(factors: Pair) -> Pair:
    """Return the factors as they leave a refresh, behind a barrier.

    Without it JAX would lead them past the `cond` of the refresh, and XLA keep a copy for it.
    """
    return jax.lax.optimization_barrier(factors)
