"""Grafting: the direction of one optimizer at the length of another."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from ..xla.dtypes import wide_dtype
from .lengths import with_norm_of


class GraftState(NamedTuple):
    """The states of the two optimizers."""

    direction: Any
    length: Any


def graft(
    direction: optax.GradientTransformation, length: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """Give each matrix of one rule's update the Frobenius norm of another's (a rule).

    Both see the same gradients. The size of some directions means little, such as Shampoo's. At
    the length of Adam's steps they can use Adam's learning rate. If the direction is zero, the
    update is zero.

    A direction: stands before the learning rate, inside `per_stack`. State and cost: both.

    Args:
        direction: The rule whose matrices are kept up to a factor.
        length: The rule whose norms they get; `optax.identity()` is the gradient itself.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> rule = gs.graft(gs.polar_factor("svd"), optax.identity())
        >>> stack = jnp.array([[[1.0, 0.0], [0.0, 7.0]]])
        >>> updates, _ = rule.update(stack, rule.init(stack))
        >>> print(updates.round())
        [[[5. 0.]
          [0. 5.]]]

    References:
        Agarwal et al., Disentangling Adaptive Gradient Methods from Learning Rates, 2020,
        arXiv:2002.11803.
    """
    direction = optax.with_extra_args_support(direction)
    length = optax.with_extra_args_support(length)

    def init_fn(params):
        return GraftState(direction.init(params), length.init(params))

    def update_fn(updates, state, params=None, **extra_args):
        way, kept = direction.update(updates, state.direction, params, **extra_args)
        like, other = length.update(updates, state.length, params, **extra_args)
        wide = [jnp.asarray(x).astype(wide_dtype(updates.dtype)) for x in (like, way)]
        return with_norm_of(*wide).astype(updates.dtype), GraftState(kept, other)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
