"""An average of the weights along the way, to evaluate instead of the last ones."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ..readout import map_kept
from ..xla.dtypes import wide_dtype
from .arguments import check_fractions, given_params
from .averages import average
from .leaves import follow_weights
from .sides import stands


class AverageWeightsState(NamedTuple):
    """The moving average of the weights from zero, and that of the number one, to divide by."""

    total: Float[Array, ""]
    average: Any

    def averaged_params(self, params: Any) -> Any:
        """Return the average; before the first step, the parameters."""
        empty = self.total == 0
        total = jnp.where(empty, 1.0, self.total)

        def read(mean, weight):
            return jnp.where(empty, weight.astype(mean.dtype), mean / total.astype(mean.dtype))

        return map_kept(read, self.average, params)


def average_weights(decay: ArrayLike = 0.999) -> optax.GradientTransformation:
    """Keep a moving average of the weights, and change nothing; `eval_params` reads it.

    A displacement: stands last in a chain, after the learning rate, where `params + updates` is
    what the weights will be. State: one copy of the parameters, in float32 where they are narrower.

    Args:
        decay: The part of the average that survives a step. It remembers about `1 / (1 - decay)`
            steps, and the first weights have no part in it.

    Raises:
        ValueError: The decay is outside `[0, 1)`; or `update` gets no params.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> optimizer = optax.chain(optax.sgd(1.0), gs.average_weights(0.5))
        >>> params = jnp.array([0.0])
        >>> state = optimizer.init(params)
        >>> for _ in range(2):
        ...     updates, state = optimizer.update(jnp.array([-1.0]), state, params)
        ...     params = optax.apply_updates(params, updates)
        >>> print(params, gs.eval_params(state, params).round(3))
        [2.] [1.667]

    References:
        Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992; in this
        form Tarvainen and Valpola, Mean teachers, 2017, arXiv:1703.01780.
    """
    check_fractions("average_weights", decay=decay)

    def init_fn(params):
        zeros = lambda p: jnp.zeros_like(p, dtype=wide_dtype(p.dtype))
        return AverageWeightsState(jnp.zeros((), jnp.float32), jax.tree.map(zeros, params))

    def update_fn(updates, state, params=None):
        params = given_params("average_weights", params)
        move = lambda weight, old: average(decay, old, weight)
        kept = follow_weights(move, updates, params, state.average)
        total = average(decay, state.total, jnp.ones_like(state.total))
        return updates, AverageWeightsState(total, kept)

    tx = optax.GradientTransformation(init_fn, update_fn)
    return stands("displacement", "average_weights", tx)
