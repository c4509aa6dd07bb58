"""An average of the weights along the way, to evaluate instead of the last ones."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from ..layout.paths import is_none
from ..xla.dtypes import wide_dtype
from ..xla.trace_once import trace_once
from .arguments import check_fractions
from .averages import average
from .sides import stands


class AverageWeightsState(NamedTuple):
    """The moving average of the weights from zero, and that of the number one, to divide by."""

    total: Float[Array, ""]
    average: Any


def average_weights(decay: ArrayLike = 0.999) -> optax.GradientTransformation:
    """Keep a moving average of the weights, and change nothing; `averaged_weights` reads it.

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
        >>> print(params, gs.averaged_weights(state, params).round(3))
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
        if params is None:
            raise ValueError(
                "average_weights averages parameters and was given none: "
                "call update(grads, state, params)"
            )

        def move(update, weight, old):
            if update is not None:
                weight = (weight + update.astype(weight.dtype)).astype(weight.dtype)
            return average(decay, old, weight)

        trees = updates, params, state.average
        kept = jax.tree.map(trace_once(move), *trees, is_leaf=is_none)
        total = average(decay, state.total, jnp.ones_like(state.total))
        return updates, AverageWeightsState(total, kept)

    tx = optax.GradientTransformation(init_fn, update_fn)
    return stands("displacement", "average_weights", tx)


def averaged_weights(state: Any, params: Any) -> Any:
    """Return the average that `average_weights` keeps in a state, in the dtypes of `params`.

    Costs one division of a copy of the parameters. Before the first step it is `params`.

    Args:
        state: The state of the whole optimizer.
        params: The parameters, for their dtypes.

    Raises:
        ValueError: The state has no average, or more than one.
    """
    is_average = lambda node: isinstance(node, AverageWeightsState)
    nodes = jax.tree.leaves(state, is_leaf=is_average)
    found = [node for node in nodes if is_average(node)]
    if len(found) != 1:
        raise ValueError(
            f"the state has {len(found)} averages of the weights; averaged_weights reads the one "
            f"of optax.chain(optimizer, gradsmith.average_weights())"
        )
    total, kept = found[0]

    def read(mean, weight):
        moved = mean / jnp.where(total == 0, 1.0, total).astype(mean.dtype)
        return jnp.where(total == 0, weight, moved.astype(weight.dtype))

    return jax.tree.map(read, kept, params)
