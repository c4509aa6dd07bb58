"""Decoupled weight decay, of all weights or of those that the step moves towards zero."""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array, Inexact

from .arguments import check_not_negative
from .leaves import map_updates
from .sides import stands


def decay_weights(rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Add `rate * params` to the direction, so that the weights shrink by `learning rate * rate`.

    A direction: stands just before the learning rate. A concrete rate of zero needs no `params`.

    Args:
        rate: The decay; not negative. A schedule is called with the number of steps so far, and is
            multiplied by the learning rate of the step all the same.

    Raises:
        ValueError: The rate is negative; or `update` gets no params while the rate is not zero.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> tx = gs.decay_weights(0.1)
        >>> params = jnp.array([2.0])
        >>> print(tx.update(jnp.array([0.0]), tx.init(params), params)[0])
        [0.2]

    References:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, arXiv:1711.05101.
    """
    return _decay("decay_weights", rate, lambda update, weight: weight)


def decay_weights_cautiously(rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Add `rate * params` where that goes the way of the direction, and nothing elsewhere.

    A weight decays only where the step moves it towards zero anyway, or not at all: where
    `update * weight >= 0`. So no decay works against the loss.

    A direction: stands just before the learning rate, after everything that can change a sign.

    Args:
        rate: The decay, as for `decay_weights`.

    Raises:
        ValueError: As for `decay_weights`.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> tx = gs.decay_weights_cautiously(0.5)
        >>> params = jnp.array([2.0, -2.0, 2.0])
        >>> print(tx.update(jnp.array([1.0, 1.0, 0.0]), tx.init(params), params)[0])
        [2. 1. 1.]

    References:
        Chen et al., Cautious Weight Decay, 2025, arXiv:2510.12402. Codes differ where the update is
        zero: here such a weight decays, as in the paper; with `> 0` instead it would stay.
    """

    def agreeing(update, weight):
        agrees = (update * weight.conj().astype(update.dtype)).real >= 0
        return jnp.where(agrees, weight, jnp.zeros_like(weight))

    return _decay("decay_weights_cautiously", rate, agreeing)


def _decay(
    name: str,
    rate: optax.ScalarOrSchedule,
    decaying: Callable[[Inexact[Array, "*shape"], Inexact[Array, "*shape"]], Array],
) -> optax.GradientTransformation:
    check_not_negative(name, rate=rate)
    if isinstance(rate, int | float) and rate == 0:
        return optax.identity()

    def update_fn(updates, state, params=None):
        if params is None:
            raise ValueError(
                f"weight decay of {rate} needs the parameters: call update(grads, state, params), "
                f"or set the decay to 0"
            )
        now = rate(state.count) if callable(rate) else rate

        def add(update, weight):
            part = jnp.asarray(now, weight.dtype) * decaying(update, weight)
            return update + part.astype(update.dtype)

        if callable(rate):
            state = optax.ScaleByScheduleState(jnp.asarray(optax.safe_increment(state.count)))
        return map_updates(add, updates, params), state

    def init_fn(params):
        del params
        if callable(rate):
            return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))
        return optax.EmptyState()

    return stands("direction", name, optax.GradientTransformation(init_fn, update_fn))
