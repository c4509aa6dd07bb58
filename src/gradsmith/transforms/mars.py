"""MARS: correct a stochastic gradient by how it changed since the last one."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from ..xla.dtypes import wide_dtype
from .arguments import check_fractions, check_not_negative
from .averages import below_one, root
from .leaves import advance
from .sides import stands


class MarsState(NamedTuple):
    """The gradient of the step before; zero at first."""

    previous: Any


def correct_by_mars(
    gamma: ArrayLike = 0.025,
    decay: ArrayLike = 0.95,
    max_norm: ArrayLike | None = 1.0,
) -> optax.GradientTransformation:
    """Add `gamma decay / (1 - decay)` times the change of the gradient, then clip each leaf's norm.

    With a momentum of that `decay` behind it, this is variance reduction: the momentum forgets
    faster what the new gradient contradicts. The gradient before the first one counts as zero.

    A direction: stands first in a chain, before the momentum. State: one copy of the gradients. The
    norm is that of a whole leaf. If a leaf is a stack of matrices, `per_matrix(correct_by_mars())`
    clips each of them.

    Args:
        gamma: How much of the correction is used.
        decay: That of the momentum behind it.
        max_norm: The longest a corrected leaf may be; None does not clip.

    Raises:
        ValueError: The decay is outside `[0, 1)`, or another number is negative.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> tx = gs.correct_by_mars(gamma=0.5, decay=0.5, max_norm=None)
        >>> state = tx.init(jnp.zeros(1))
        >>> for g in (2.0, 2.0, 3.0):
        ...     updates, state = tx.update(jnp.array([g]), state)
        ...     print(updates)
        [3.]
        [2.]
        [3.5]

    References:
        Yuan et al., MARS, 2024, arXiv:2411.10438 (its approximate form); Liu et al., MARS-M, 2025,
        arXiv:2510.21800.
    """
    check_fractions("correct_by_mars", decay=decay)
    check_not_negative("correct_by_mars", gamma=gamma, max_norm=max_norm)

    def init_fn(params):
        zeros = lambda p: jnp.zeros_like(p, dtype=wide_dtype(p.dtype))
        return MarsState(jax.tree.map(zeros, params))

    def update_fn(updates, state, params=None):
        del params

        def correct(gradient, previous):
            wide = gradient.astype(previous.dtype)
            beta = below_one(decay, wide.dtype)
            out = wide + jnp.asarray(gamma, wide.dtype) * beta / (1 - beta) * (wide - previous)
            if max_norm is not None:
                norm = root(jnp.sum(jnp.square(jnp.abs(out))))
                limit = jnp.asarray(max_norm, norm.dtype)
                shrink = jnp.where(norm > limit, limit / jnp.where(norm == 0, 1.0, norm), 1.0)
                out = out * shrink.astype(out.dtype)
            # A copy: whoever donates both gradients and state may not donate one array twice.
            return out.astype(gradient.dtype), jnp.copy(wide)

        out, previous = advance(correct, updates, state.previous)
        return out, MarsState(previous)

    return stands("direction", "correct_by_mars", optax.GradientTransformation(init_fn, update_fn))
