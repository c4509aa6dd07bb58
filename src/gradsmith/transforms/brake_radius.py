"""A brake on the growth of the weights, and a pin that keeps a step from lengthening them."""

import jax.numpy as jnp
import optax

from ..xla.dtypes import wide_dtype
from .arguments import ScalarOrSchedule, check_fractions, check_not_negative, given_params
from .lengths import inner, length, over_length
from .schedules import init_schedule, read_schedule


def brake_radius(outward: ScalarOrSchedule = 0.5) -> optax.GradientTransformation:
    """Take away a part of what would lengthen the weights (a rule).

    An update has a part along its weights and a part across them. Where the part along them points
    outward, so that the step would lengthen the weights, it is multiplied by `outward`. What points
    inward stays.

    A direction: stands before the learning rate, inside `per_stack`. Keeps no state, besides the
    count of a schedule. On a mesh the weights travel to the owners with the updates.

    Args:
        outward: What remains of the outward part: 1 changes nothing, 0 takes all of it away.
            The brake is weaker on weights shorter than 1e-6, so that weights can grow from zero.

    Raises:
        ValueError: The number is negative, or `update` gets no params.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.brake_radius(0.5)
        >>> weights = jnp.array([[[3.0, 4.0]]])
        >>> print(rule.update(jnp.array([[[1.0, -2.0]]]), rule.init(weights), weights)[0])
        [[[ 1.3 -1.6]]]

    References:
        modded-nanogpt, optimization track, record 29 and most that follow. Its README describes
        another rule than its code, which is this one.
        https://github.com/KellerJordan/modded-nanogpt
    """
    check_not_negative("brake_radius", outward=outward)

    def update_fn(updates, state, params=None):
        params = given_params("brake_radius", params)
        now, state = read_schedule(outward, state)
        wide = updates.astype(wide_dtype(updates.dtype))
        along = over_length(params.astype(wide.dtype), least=1e-6)
        growing = jnp.minimum(inner(wide, along), 0.0)  # the step is minus the direction
        taken = (1.0 - jnp.asarray(now, growing.dtype)) * growing
        return (wide - taken.astype(wide.dtype) * along).astype(updates.dtype), state

    return optax.GradientTransformation(lambda params: init_schedule(outward), update_fn)


def pin_radius(decay: ScalarOrSchedule = 0.0) -> optax.GradientTransformation:
    """Let a step lengthen the weights by its part along them alone (a rule).

    A step across the weights lengthens them too, by Pythagoras. The new weights `W + d` get the
    length `|W| + <d, W> / |W|`, which such a step leaves as it was.

    A displacement: stands after the learning rate, inside a `per_stack` of its own. Keeps no state,
    besides the count of a schedule. The updates are differences of weights, so keep the parameters
    in float32. Weights of zero get the length 1e-8 in their first step, and grow from there.

    Args:
        decay: A cautious decay behind the pin. It takes this part of those weights that the step,
            before it is pinned, moves towards zero. A number or a schedule. It is not multiplied
            by the learning rate: give `lambda step: 0.025 * rate(step)`.

    Raises:
        ValueError: The decay is outside `[0, 1)`, or `update` gets no params.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.pin_radius()
        >>> weights = jnp.array([[[3.0, 0.0]]])
        >>> step, _ = rule.update(jnp.array([[[0.0, 4.0]]]), rule.init(weights), weights)
        >>> print(f"{jnp.linalg.norm(weights + step):.3f}")
        3.000

    References:
        As for `brake_radius`; with the decay, record 46.
    """
    check_fractions("pin_radius", decay=decay)

    def update_fn(updates, state, params=None):
        params = given_params("pin_radius", params)
        taken, state = read_schedule(decay, state)
        weights = params.astype(wide_dtype(params.dtype))
        step = updates.astype(weights.dtype)
        radius = length(weights) + inner(step, over_length(weights))
        new = over_length(weights + step) * jnp.maximum(radius, 1e-8).astype(weights.dtype)
        shrinking = ((step * weights.conj()).real < 0).astype(new.dtype)
        new = new * (1 - jnp.asarray(taken).astype(new.dtype) * shrinking)
        return (new - weights).astype(updates.dtype), state

    return optax.GradientTransformation(lambda params: init_schedule(decay), update_fn)
