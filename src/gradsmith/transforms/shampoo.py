"""Shampoo: whiten a gradient by an inverse root of its covariance on either side, or on one."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Int

from ..matrix.roots import RootMethod, inverse_root
from ..xla.dtypes import wide_dtype
from .arguments import check_cadence, check_choice, check_fractions, check_not_negative
from .averages import average, debias
from .kronecker import Pair, Sides, check_sides, each_side, identities, rotate_back, with_grams

Memory = Literal["ema_debiased", "ema", "sum"]


class ShampooState(NamedTuple):
    """What Shampoo keeps for a stack: the mean gradient, a factor a side, and their roots."""

    step: Int[Array, ""]
    mean: Any
    factors: Pair
    roots: Pair


def scale_by_shampoo(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.95,
    eps: ArrayLike = 1e-6,
    *,
    memory: Memory = "ema_debiased",
    refresh_every: ArrayLike = 10,
    root: RootMethod = "eigh",
    sides: Sides = "both",
    max_side: int | None = None,
) -> optax.GradientTransformation:
    """Multiply the mean gradient by inverse roots of two covariances, `L^-1/4 M R^-1/4` (a rule).

    `L <- b2 L + (1 - b2) G G^H`, and `R` in the same way with `G^H G`. Every `refresh_every` steps
    their roots are computed again, before they are used. With one side the root is `-1/2`:
    `sides="smaller"` is one-sided Shampoo, or ASGO. Without memory, `b1 = b2 = 0`, both forms are
    the polar factor.

    A direction: stands before the learning rate, inside `per_stack`. Usually it stands inside
    `graft`, because its length depends on the memory. State for `(m, n)`: `m n + 2 m^2 + 2 n^2`, or
    twice the square of the one side. Costs `4 m n (m + n)` flops a step, and the roots.

    Args:
        b1: The part of the mean gradient that survives a step.
        b2: The part of the factors that survives a step; not used by 'sum'.
        eps: The ridge under the root, relative to the norm of the factor.
        memory: 'ema_debiased', moving averages divided by `1 - decay^t`; 'ema', the averages as
            they are, ASGO; 'sum', `L <- L + G G^H`, AdaGrad's, with a debiased mean gradient.
        refresh_every: The number of steps between roots. The first are within the first step.
        root: 'eigh' or 'newton'; see `gradsmith.matrix.inverse_root`.
        sides: 'both', 'fan_in', 'fan_out', or the 'smaller' alone.
        max_side: A side longer than this gets no factor. If both are longer, the update is the mean
            gradient. By default 10,000.

    Raises:
        ValueError: An argument is out of its range.
        TypeError: `max_side` is an array: it decides the shape of the state.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> rule = gs.scale_by_shampoo()
        >>> gradients = jnp.array([[[4.0, 0.0], [0.0, -3.0]]])
        >>> updates, _ = rule.update(gradients, rule.init(gradients))
        >>> print(updates.round(3))
        [[[ 1.  0.]
          [ 0. -1.]]]

    References:
        Gupta et al., Shampoo, 2018, arXiv:1802.09568; Shi et al., A Distributed Shampoo, 2023,
        arXiv:2309.06497; An et al., ASGO, 2025, arXiv:2503.20762.
    """
    check_fractions("scale_by_shampoo", b1=b1, b2=b2)
    check_not_negative("scale_by_shampoo", eps=eps)
    check_cadence("scale_by_shampoo", refresh_every=refresh_every)
    check_choice("memory", memory, Memory)
    check_choice("method of roots", root, RootMethod)
    check_sides("scale_by_shampoo", sides, max_side)

    def init_fn(params):
        dtype = wide_dtype(params.dtype)
        roots = identities(params, sides, max_side, dtype)
        zeros = each_side(jnp.zeros_like, roots)
        return ShampooState(
            jnp.zeros((), jnp.int32), jnp.zeros_like(params, dtype=dtype), zeros, roots
        )

    def update_fn(updates, state, params=None):
        del params
        step = jnp.asarray(optax.safe_increment(state.step))
        gradient = updates.astype(state.mean.dtype)
        mean = average(b1, state.mean, gradient)
        add = lambda old, new: old + new if memory == "sum" else average(b2, old, new)
        factors = with_grams(add, state.factors, Pair(gradient, gradient))
        exponent = 2 * sum(factor is not None for factor in factors)

        def take(roots):
            del roots
            debiased = lambda a: debias(b2, a, step) if memory == "ema_debiased" else a
            ridge = lambda a: jnp.asarray(eps, jnp.finfo(a.dtype).dtype)
            take_one = lambda a: inverse_root(debiased(a), exponent, root, eps=ridge(a))
            return each_side(take_one, factors)

        due = state.step % jnp.asarray(refresh_every, step.dtype) == 0
        roots = jax.lax.cond(due, take, lambda roots: roots, state.roots)
        out = rotate_back(roots, mean if memory == "ema" else debias(b1, mean, step))
        return out.astype(updates.dtype), ShampooState(step, mean, factors, roots)

    return optax.GradientTransformation(init_fn, update_fn)
