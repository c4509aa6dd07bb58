"""AdEMAMix: Adam with a second, much slower mean of the gradients."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Int

from ..xla.dtypes import wide_dtype
from .arguments import ScalarOrSchedule, check_fractions, check_not_negative
from .averages import average, debias, root, square
from .leaves import advance
from .sides import stands


class AdemamixState(NamedTuple):
    """The number of steps, the fast and the slow mean, and the mean square."""

    step: Int[Array, ""]
    fast: Any
    slow: Any
    mean_square: Any


def scale_by_ademamix(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    b3: ScalarOrSchedule = 0.9999,
    alpha: ScalarOrSchedule = 5.0,
    eps: ArrayLike = 1e-8,
) -> optax.GradientTransformation:
    """Add `alpha` times a much slower mean to Adam's mean, before the division.

    The direction is `(m1 + alpha m2) / (sqrt(v) + eps)`. `m1` and `v` are debiased as in Adam, `m2`
    is not: it enters slowly. At the start of a long run `b3` and `alpha` should grow, or the first
    steps are unstable: see `ademamix_warmup`.

    A direction: stands before the learning rate. State: three copies of the parameters, in float32
    where they are narrower.

    Args:
        b1: The part of the fast mean that survives a step.
        b2: The part of the mean square that survives a step.
        b3: The part of the slow mean that survives a step; a number, or a schedule of the number
            of steps so far.
        alpha: The weight of the slow mean; a number, or a schedule of the number of steps so far.
        eps: Added to the root.

    Raises:
        ValueError: A decay is outside `[0, 1)`, or `alpha` or `eps` is negative.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> tx = gs.scale_by_ademamix(b3=0.75, alpha=4.0)
        >>> grads = jnp.array([4.0, -0.5])
        >>> print(tx.update(grads, tx.init(grads))[0].round(3))
        [ 2. -2.]

    References:
        Pagliardini et al., The AdEMAMix Optimizer, 2024, arXiv:2409.03137.
    """
    check_fractions("scale_by_ademamix", b1=b1, b2=b2, b3=b3)
    check_not_negative("scale_by_ademamix", alpha=alpha, eps=eps)

    def init_fn(params):
        zeros = lambda: jax.tree.map(lambda p: jnp.zeros_like(p, dtype=wide_dtype(p.dtype)), params)
        return AdemamixState(jnp.zeros((), jnp.int32), zeros(), zeros(), zeros())

    def update_fn(updates, state, params=None):
        del params
        step = jnp.asarray(optax.safe_increment(state.step))
        slow_decay = b3(state.step) if callable(b3) else b3
        weight = alpha(state.step) if callable(alpha) else alpha

        def move(g, m1, m2, v):
            m1, m2 = average(b1, m1, g), average(slow_decay, m2, g)
            v = average(b2, v, square(g, v))
            divisor = root(debias(b2, v, step)) + jnp.asarray(eps, v.dtype)
            mixed = debias(b1, m1, step) + jnp.asarray(weight, m2.dtype) * m2
            return (mixed / jnp.where(divisor == 0, 1, divisor)).astype(g.dtype), m1, m2, v

        out, *means = advance(move, updates, state.fast, state.slow, state.mean_square)
        return out, AdemamixState(step, *means)

    tx = optax.GradientTransformation(init_fn, update_fn)
    return stands("direction", "scale_by_ademamix", tx)


def ademamix_warmup(
    steps: int, *, b1: float = 0.9, b3: float = 0.9999, alpha: float = 5.0
) -> dict[str, optax.Schedule]:
    """Return the schedules `b3` and `alpha` of `scale_by_ademamix` that grow over so many steps.

    `alpha` grows linearly from 0. `b3` grows from `b1` so that the half-life of the slow mean,
    `log(1/2) / log(b3)`, grows linearly.

    Args:
        steps: The length of the warm-up; the paper takes the length of the run.
        b1: Where `b3` starts, in (0, 1).
        b3: Where it ends, in (0, 1).
        alpha: Where `alpha` ends.

    Raises:
        ValueError: There are no steps, or a decay is outside (0, 1).

    Examples:
        >>> import gradsmith as gs
        >>> warmup = gs.ademamix_warmup(1000)
        >>> print(warmup["alpha"](500), round(float(warmup["b3"](500)), 4))
        2.5 0.9998
        >>> tx = gs.scale_by_ademamix(**warmup)
    """
    if steps < 1:
        raise ValueError(f"ademamix_warmup needs steps >= 1, got {steps}")
    for name, decay in (("b1", b1), ("b3", b3)):
        if not 0 < decay < 1:
            raise ValueError(f"ademamix_warmup needs 0 < {name} < 1, got {decay}")
    # The paper interpolates log(1/2) / log(b) - 1 and takes (1/2)^(1 / (f + 1)): the half-life.
    half_life = lambda decay: math.log(0.5) / math.log(decay)

    def decay_at(step):
        part = jnp.minimum(jnp.asarray(step, jnp.float32) / steps, 1.0)
        return 0.5 ** (1 / (half_life(b1) + part * (half_life(b3) - half_life(b1))))

    def alpha_at(step):
        return alpha * jnp.minimum(jnp.asarray(step, jnp.float32) / steps, 1.0)

    return {"b3": decay_at, "alpha": alpha_at}
