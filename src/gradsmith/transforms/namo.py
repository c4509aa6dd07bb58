"""NAMO: how sure the momentum is of its direction scales an orthogonalized step."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ..xla.dtypes import wide_dtype
from .arguments import check_choice, check_fractions, check_not_negative
from .averages import average, below_one, root
from .lengths import length
from .momentum import MomentumKind, momentum


class NamoState(NamedTuple):
    """The number of steps, the momentum, the mean square of the gradients' norms; the direction."""

    step: Int[Array, ""]
    momentum: Any
    mean_square: Float[Array, "k 1 1"]
    direction: Any


def scale_by_namo(
    direction: optax.GradientTransformation,
    b1: ArrayLike = 0.95,
    b2: ArrayLike = 0.99,
    eps: ArrayLike = 1e-8,
    momentum_kind: MomentumKind = "ema_nesterov",
) -> optax.GradientTransformation:
    """Scale the direction of the momentum by Adam's quotient of two norms (a rule).

    With the momentum `M` and `v <- b2 v + (1 - b2) |G|^2`, the update is the direction of `M` times
    `|M| / (1 - b1^t)` over `sqrt(v / (1 - b2^t))`. If gradients agree, this factor is about 1. If
    they are mostly noise, they cancel in `M`, and the steps become short.

    In the paper the decay is scaled too: put `decay_weights` at the end of `direction` for that.
    The authors' code also limits the step, by numbers with the learning rate in them. They act only
    on steps that are far too long, and are left out here.

    A direction: stands before the learning rate, inside `per_stack`, first: it sees the gradient.
    State: one copy of the matrices, one number a matrix, and what `direction` keeps.

    Args:
        direction: A rule that makes the direction of the momentum, such as `polar_factor`.
        b1: The part of the momentum that survives a step.
        b2: The part of the mean square that survives a step.
        eps: Added to the root of the mean square.
        momentum_kind: The convention, by name; see `momentum`. With Nesterov's look-ahead, as in
            the authors' code, the first step is `1 + b1` times as long.

    Raises:
        ValueError: A number is out of its range, or no convention has that name.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.scale_by_namo(gs.polar_factor("svd"), momentum_kind="ema")
        >>> stack = jnp.array([[[4.0, 0.0], [0.0, -3.0]]])
        >>> print(rule.update(stack, rule.init(stack))[0].round(3))
        [[[ 1.  0.]
          [ 0. -1.]]]

    References:
        Zhang et al., Adam Improves Muon, 2026, arXiv:2602.17080.
    """
    check_fractions("scale_by_namo", b1=b1, b2=b2)
    check_not_negative("scale_by_namo", eps=eps)
    check_choice("momentum", momentum_kind, MomentumKind)
    mean_of = momentum(b1, momentum_kind)
    inner = optax.with_extra_args_support(direction)

    def init_fn(params):
        real = jnp.finfo(wide_dtype(params.dtype)).dtype
        squares = jnp.zeros_like(length(params), dtype=real)
        return NamoState(
            jnp.zeros((), jnp.int32), mean_of.init(params), squares, inner.init(params)
        )

    def update_fn(updates, state, params=None, **extra):
        step = jnp.asarray(optax.safe_increment(state.step))
        wide = updates.astype(wide_dtype(updates.dtype))
        mean, mean_state = mean_of.update(wide, state.momentum)
        squares = average(b2, state.mean_square, length(wide) ** 2)
        fresh = lambda decay: 1 - below_one(decay, squares.dtype) ** step.astype(squares.dtype)
        divisor = root(squares) + jnp.asarray(eps, squares.dtype)
        divisor = fresh(b1) * jnp.where(divisor == 0, 1.0, divisor)
        factor = jnp.sqrt(fresh(b2)) * length(jnp.asarray(mean)) / divisor
        out, kept = inner.update(mean, state.direction, params, **extra)
        out = (jnp.asarray(out) * factor.astype(wide.dtype)).astype(updates.dtype)
        return out, NamoState(step, mean_state, squares, kept)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
