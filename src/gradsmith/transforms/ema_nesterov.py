"""EMA-Nesterov: gradients are taken ahead of the weights, along a slow mean of their steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ..readout import map_kept
from ..xla.dtypes import wide_dtype
from .arguments import ScalarOrSchedule, check_fractions, check_not_negative
from .averages import average
from .leaves import advance
from .sides import stands


class EmaNesterovState(NamedTuple):
    """The number of steps, how far ahead the parameters are, and the mean of the steps."""

    step: Int[Array, ""]
    ahead: Float[Array, ""]
    velocity: Any

    def unshifted_params(self, params: Any) -> Any:
        """Return the weights that the parameters are ahead of."""

        def read(velocity, shifted):
            return shifted.astype(velocity.dtype) - self.ahead.astype(velocity.dtype) * velocity

        return map_kept(read, self.velocity, params)


def ema_nesterov(
    decay: ArrayLike = 0.99, ahead: ScalarOrSchedule = 0.3
) -> optax.GradientTransformation:
    """Keep the parameters ahead of the weights, along a slow mean of the steps of the weights.

    The parameters are `y = x + a m`. What stands before makes a step `w` from `y`, so that
    `x <- y + w`; then `m <- decay m + (1 - decay) (x - x_old)`, and the parameters become
    `x + a m`. At a constant `w` the weights go at the speed `w / (1 - a)`. `eval_params` returns
    the weights `x`.

    A displacement: stands last, after the learning rate and outside a partition, and needs no
    `params`. An average of the weights stands before it. State: one copy of the parameters, in
    float32 where they are narrower, and a number.

    Args:
        decay: The part of the mean that survives a step.
        ahead: The `a` of the parameters, a number or a schedule of the number of steps so far. With
            0 this changes nothing. The records have 0.3 until a run comes near its end.

    Raises:
        ValueError: The decay is outside `[0, 1)`, or `ahead` is negative.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> tx = optax.chain(optax.sgd(1.0), gs.ema_nesterov(decay=0.5, ahead=0.5))
        >>> params = jnp.array([0.0])
        >>> updates, state = tx.update(jnp.array([-4.0]), tx.init(params))
        >>> params = params + updates
        >>> print(params, gs.eval_params(state, params))
        [5.] [4.]

    References:
        modded-nanogpt, optimization track, records 39 to 46. Its code keeps the weights and moves
        them before and after each step; this is the same with the shifted point as parameters.
        https://github.com/KellerJordan/modded-nanogpt
    """
    check_fractions("ema_nesterov", decay=decay)
    check_not_negative("ema_nesterov", ahead=ahead)

    def shift_at(step: Array) -> Float[Array, ""]:
        return jnp.asarray(ahead(step) if callable(ahead) else ahead).astype(jnp.float32)

    def init_fn(params):
        zeros = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=wide_dtype(p.dtype)), params)
        step = jnp.zeros((), jnp.int32)
        return EmaNesterovState(step, shift_at(step), zeros)

    def update_fn(updates, state, params=None):
        del params
        step = jnp.asarray(optax.safe_increment(state.step))
        new = shift_at(step)

        def move(update, velocity):
            old, now = (shift.astype(velocity.dtype) for shift in (state.ahead, new))
            taken = update.astype(velocity.dtype)
            velocity = average(decay, velocity, taken + old * velocity)
            return (taken + now * velocity).astype(update.dtype), velocity

        out, velocity = advance(move, updates, state.velocity)
        return out, EmaNesterovState(step, new, velocity)

    tx = optax.GradientTransformation(init_fn, update_fn)
    return stands("displacement", "ema_nesterov", tx)
