"""Hyperball: weights that keep their length, and a learning rate that is an angle."""

import jax.numpy as jnp
import optax

from ..xla.dtypes import wide_dtype
from .arguments import ScalarOrSchedule, given_params
from .lengths import length, over_length
from .schedules import init_schedule, read_schedule


def hyperball(learning_rate: ScalarOrSchedule) -> optax.GradientTransformation:
    """Step by a part of the weights' length, and bring them back to that length (a rule).

    `W <- R normalize(W - R rate u / |u|)` with `R = |W|`. The length of the update no longer
    matters, and no weight decay is needed. Weights of zero stay zero, so none may start there.

    A learning rate: stands in its place, inside `per_stack`, last. Keeps no state, besides the
    count of a schedule. The updates are differences of weights, so keep the parameters in float32.

    Args:
        learning_rate: How far a step goes, over the length of the weights: for a step across them,
            the tangent of the angle that they turn. 0.018 in the records, behind an
            orthogonalization.

    Raises:
        ValueError: `update` gets no params.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.hyperball(0.75)
        >>> weights = jnp.array([[[5.0, 0.0]]])
        >>> step, _ = rule.update(jnp.array([[[0.0, -9.0]]]), rule.init(weights), weights)
        >>> print(weights + step)
        [[[4. 3.]]]

    References:
        modded-nanogpt, optimization track, record 5; the length is that of the weights of this
        step, as in its code. https://github.com/KellerJordan/modded-nanogpt
    """

    def update_fn(updates, state, params=None):
        params = given_params("hyperball", params)
        rate, state = read_schedule(learning_rate, state)
        weights = params.astype(wide_dtype(params.dtype))
        radius = length(weights).astype(weights.dtype)
        step = jnp.asarray(rate, weights.dtype) * over_length(updates.astype(weights.dtype))
        turned = over_length(over_length(weights) - step)
        new = jnp.where(radius == 0, 0.0, radius * turned)
        return (new - weights).astype(updates.dtype), state

    return optax.GradientTransformation(lambda params: init_schedule(learning_rate), update_fn)
