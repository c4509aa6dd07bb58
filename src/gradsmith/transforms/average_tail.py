"""An average of the weights of the end of a run, mixed with the last ones to evaluate."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ..readout import map_kept
from ..xla.dtypes import wide_dtype
from .arguments import check_fractions, check_not_negative, check_shares, given_params
from .averages import average
from .leaves import follow_weights
from .sides import stands


class AverageTailState(NamedTuple):
    """The number of steps, the average, and its share in the evaluation, 0 until it has begun."""

    step: Int[Array, ""]
    share: Float[Array, ""]
    average: Any

    def averaged_params(self, params: Any) -> Any:
        """Return the mixture; until the average begins, the parameters."""

        def read(mean, weight):
            share, wide = self.share.astype(mean.dtype), weight.astype(mean.dtype)
            return jnp.where(share == 0, wide, wide + share * (mean - wide))

        return map_kept(read, self.average, params)


def average_tail(
    start: ArrayLike, decay: ArrayLike = 149 / 150, share: ArrayLike = 0.6
) -> optax.GradientTransformation:
    """Average the weights from a step on, and change nothing; `eval_params` mixes it in.

    After `start` steps the average `E` is the weights `W` of that step; then
    `E <- decay E + (1 - decay) W`. What is evaluated is `(1 - share) W + share E`. Unlike in
    `average_weights` the first weights keep the part `decay^k` after `k` more steps.

    A displacement: stands after the learning rate, behind everything that changes a step, before
    `ema_nesterov`. Inside `optax.masked`, `eval_params` leaves the other leaves as they are. State:
    one copy of the parameters, in float32 where they are narrower.

    Args:
        start: After how many steps the average begins.
        decay: The part of the average that survives a step.
        share: The part of the average in what is evaluated, from 0 to 1.

    Raises:
        ValueError: A number is out of its range; or `update` gets no params.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> optimizer = optax.chain(optax.sgd(1.0), gs.average_tail(1, decay=0.5, share=0.5))
        >>> params = jnp.array([0.0])
        >>> state = optimizer.init(params)
        >>> for _ in range(2):
        ...     updates, state = optimizer.update(jnp.array([-1.0]), state, params)
        ...     params = optax.apply_updates(params, updates)
        >>> print(params, gs.eval_params(state, params))
        [2.] [1.75]

    References:
        modded-nanogpt, optimization track, record 46; record 45 starts at 2000 and evaluates the
        average alone. https://github.com/KellerJordan/modded-nanogpt
    """
    check_not_negative("average_tail", start=start)
    check_fractions("average_tail", decay=decay)
    check_shares("average_tail", share=share)

    def init_fn(params):
        step = jnp.zeros((), jnp.int32)
        # A copy, so that a step may be given both the parameters and the state to overwrite.
        kept = jax.tree.map(lambda p: jnp.array(p, wide_dtype(p.dtype), copy=True), params)
        return AverageTailState(step, jnp.zeros((), jnp.float32), kept)

    def update_fn(updates, state, params=None):
        params = given_params("average_tail", params)
        step = jnp.asarray(optax.safe_increment(state.step))
        begins = step <= jnp.asarray(start).astype(step.dtype)

        move = lambda weight, old: jnp.where(begins, weight, average(decay, old, weight))
        kept = follow_weights(move, updates, params, state.average)
        now = jnp.where(begins, 0.0, jnp.asarray(share).astype(jnp.float32))
        return updates, AverageTailState(step, now, kept)

    tx = optax.GradientTransformation(init_fn, update_fn)
    return stands("displacement", "average_tail", tx)
