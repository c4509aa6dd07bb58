"""AdaMuon: give the entries of an orthogonalized update equal sizes, over time."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact

from ..xla.dtypes import wide_dtype
from .arguments import check_fractions, check_not_negative
from .averages import average, root, square
from .lengths import over_length


class EntryRmsState(NamedTuple):
    """The running mean square of every entry of the update."""

    mean_square: Inexact[Array, "k m n"]


def scale_by_entry_rms(
    decay: ArrayLike = 0.95, eps: ArrayLike = 1e-8, target: ArrayLike = 0.2
) -> optax.GradientTransformation:
    """Divide every entry by its running root mean square, and give the matrix an RMS (a rule).

    It belongs behind the polar factor of a sign. The entries of the update then have a root
    mean square of exactly `target`. A typical AdamW update has the same, so that AdamW's learning
    rates carry over. The first update is `target` times a sign. A matrix of zeros stays zero.

    A direction: stands before the learning rate, inside `per_stack`; no shape scale beside it.
    State: one copy of the matrices. No bias correction: the fixed RMS cancels it.

    Args:
        decay: The part of the mean square that survives a step.
        eps: Added to the root mean square.
        target: The root mean square of the entries of an update.

    Raises:
        ValueError: A number is out of its range.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.scale_by_entry_rms()
        >>> stack = jnp.array([[[0.6, -0.8], [0.8, 0.6]]])
        >>> print(rule.update(stack, rule.init(stack))[0].round(3))
        [[[ 0.2 -0.2]
          [ 0.2  0.2]]]

    References:
        Si et al., AdaMuon, 2025, arXiv:2507.11005 and https://github.com/Chongjie-Si/AdaMuon
    """
    check_fractions("scale_by_entry_rms", decay=decay)
    check_not_negative("scale_by_entry_rms", eps=eps, target=target)

    def init_fn(params):
        return EntryRmsState(jnp.zeros_like(params, dtype=wide_dtype(params.dtype)))

    def update_fn(updates, state, params=None):
        del params
        wide = updates.astype(state.mean_square.dtype)
        mean_square = average(decay, state.mean_square, square(wide, wide))
        divisor = root(mean_square) + jnp.asarray(eps, wide.dtype)
        even = over_length(wide / jnp.where(divisor == 0, 1.0, divisor).astype(wide.dtype))
        _, m, n = updates.shape
        out = jnp.asarray(target, wide.dtype) * math.sqrt(m * n) * even
        return out.astype(updates.dtype), EntryRmsState(mean_square)

    return optax.GradientTransformation(init_fn, update_fn)
