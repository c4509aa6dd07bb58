"""NorMuon: give the neurons of an orthogonalized update equal lengths, over time."""

from typing import Literal, NamedTuple

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact

from ..xla.dtypes import wide_dtype
from .arguments import check_choice, check_fractions, check_not_negative
from .averages import average, root, square
from .lengths import with_norm_of

NeuronAxis = Literal["out", "in", "long"]


class NeuronRmsState(NamedTuple):
    """The running mean square of every neuron's part of the update."""

    mean_square: Inexact[Array, "k neurons"]


def scale_by_neuron_rms(
    decay: ArrayLike = 0.95, eps: ArrayLike = 1e-10, axis: NeuronAxis = "out"
) -> optax.GradientTransformation:
    """Give neurons equal parts of an update over time, and keep its norm (a rule).

    It divides each neuron's part by its running root mean square, then restores the Frobenius norm.
    It belongs behind `orthogonalize`. A neuron is an output unit, a column of `(m, n)`. If
    `m >= n`, the columns of an exact polar factor have norm 1 already, and nothing happens. So
    'out' acts on layers that widen, and on what Newton-Schulz leaves uneven.

    A direction: stands before the learning rate, inside `per_stack`, before a shape scale. State:
    one number a neuron. No bias correction: restoring the norm cancels it.

    Args:
        decay: The part of the mean square that survives a step.
        eps: Added to the root mean square.
        axis: What counts as a neuron: 'out', an output unit, as in the paper; 'in', an input unit;
            'long', whichever there are more of, output units if equal, as in modded-nanogpt.

    Raises:
        ValueError: No axis has that name, or a number is out of its range.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.scale_by_neuron_rms()
        >>> stack = jnp.array([[[1.0, 7.0]]])
        >>> updates, _ = rule.update(stack, rule.init(stack))
        >>> print(updates.round())
        [[[5. 5.]]]

    References:
        Li et al., NorMuon, 2025, arXiv:2510.05491; its neuron is a row of a weight `(out, in)`.
    """
    check_choice("axis", axis, NeuronAxis)
    check_fractions("scale_by_neuron_rms", decay=decay)
    check_not_negative("scale_by_neuron_rms", eps=eps)

    def summed_axis(shape: tuple[int, ...]) -> int:
        _, m, n = shape
        return {"out": -2, "in": -1, "long": -2 if n >= m else -1}[axis]

    def init_fn(params):
        shape = jnp.max(jnp.abs(params), axis=summed_axis(params.shape), initial=0.0).shape
        return NeuronRmsState(jnp.zeros(shape, jnp.finfo(wide_dtype(params.dtype)).dtype))

    def update_fn(updates, state, params=None):
        del params
        summed = summed_axis(updates.shape)
        wide = updates.astype(wide_dtype(updates.dtype))
        size = max(1, updates.shape[summed])  # the mean of no numbers is not zero
        seen = jnp.sum(square(wide, wide).real, axis=summed) / size
        mean_square = average(decay, state.mean_square, seen)
        divisor = root(jnp.expand_dims(mean_square, summed)) + jnp.asarray(eps, seen.dtype)
        nonzero = jnp.where(divisor == 0, 1.0, divisor).astype(wide.dtype)
        out = with_norm_of(wide, wide / nonzero)
        return out.astype(updates.dtype), NeuronRmsState(mean_square)

    return optax.GradientTransformation(init_fn, update_fn)
