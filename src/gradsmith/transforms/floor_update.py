"""A floor under the length of an update, relative to that of the weights."""

from typing import Literal

import jax.numpy as jnp
import optax

from ..xla.dtypes import wide_dtype
from .arguments import ScalarOrSchedule, check_choice, check_not_negative, given_params
from .lengths import MATRIX, NEURON, length
from .schedules import init_schedule, read_schedule

Each = Literal["matrix", "neuron"]


def floor_update(
    ratio: ScalarOrSchedule = 0.35, each: Each = "matrix"
) -> optax.GradientTransformation:
    """Lengthen an update that is shorter than `ratio` times its weights (a rule).

    `u <- max(1, ratio |W| / |u|) u`. Longer updates stay as they are, and an update of zero stays
    zero. As the learning rate comes after it, a step then turns the weights by at least about
    `ratio * learning rate`, however large they have become.

    A direction: stands before the learning rate, inside `per_stack`, last. Keeps no state, besides
    the count of a schedule. On a mesh the weights travel to the owners with the updates.

    Args:
        ratio: The least length of an update over that of the weights; not negative. 0.35 to 0.3825
            in the records, behind an orthogonalization.
        each: Whose lengths are compared: of each 'matrix', or of each 'neuron', an output unit,
            which is a column of `(m, n)`.

    Raises:
        ValueError: The ratio is negative, no choice has that name, or `update` gets no params.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.floor_update(0.5)
        >>> weights = jnp.array([[[6.0, 8.0]]])
        >>> print(rule.update(jnp.array([[[1.0, 0.0]]]), rule.init(weights), weights)[0])
        [[[5. 0.]]]

    References:
        modded-nanogpt, optimization track, from record 9 on; each neuron: record 46.
        https://github.com/KellerJordan/modded-nanogpt
    """
    check_not_negative("floor_update", ratio=ratio)
    check_choice("each", each, Each)
    axes = MATRIX if each == "matrix" else NEURON

    def update_fn(updates, state, params=None):
        params = given_params("floor_update", params)
        now, state = read_schedule(ratio, state)
        wide = updates.astype(wide_dtype(updates.dtype))
        weights = params.astype(wide_dtype(params.dtype))
        norm = length(wide, axes)
        least = jnp.asarray(now, norm.dtype) * length(weights, axes)
        factor = jnp.maximum(1.0, least / jnp.where(norm == 0, 1.0, norm))
        return (wide * factor.astype(wide.dtype)).astype(updates.dtype), state

    return optax.GradientTransformation(lambda params: init_schedule(ratio), update_fn)
