"""Adam's direction, in arithmetic that does not depend on the dtype of the parameters."""

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from ..xla.dtypes import wide_dtype
from .arguments import check_fractions, check_not_negative
from .averages import average, root, square
from .averages import debias as debiased
from .leaves import advance
from .sides import stands


def scale_by_adam(
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    *,
    debias: bool = True,
) -> optax.GradientTransformation:
    """Divide the mean of the gradients by the root of their mean square.

    In float32 it equals `optax.scale_by_adam`, with the same state and the same defaults. If the
    parameters are narrower, it keeps its moments and computes in float32. There Optax's Adam has
    two faults: in float16 its eps is zero, so that a zero gradient gives NaN, and in bfloat16 an
    injected `b2` of 0.999 is 1. Ours also runs under strict dtypes, as it promotes nothing
    implicitly.

    A direction: stands before the learning rate. State: two copies of the parameters.

    Args:
        b1: The part of the mean that survives a step.
        b2: The part of the mean square that survives a step.
        eps: Added to the root. A zero gradient gives a zero update also where this is zero.
        eps_root: Added to the mean square under the root.
        debias: Whether both are divided by `1 - b^t` of their decay, as they start at zero. Without
            it the first step is `(1 - b1) / sqrt(1 - b2)` times as long.

    Raises:
        ValueError: A decay is outside `[0, 1)`, or `eps` or `eps_root` is negative.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> tx = gs.scale_by_adam()
        >>> grads = jnp.array([4.0, -0.5, 0.0], jnp.float16)
        >>> print(tx.update(grads, tx.init(grads))[0])
        [ 1. -1.  0.]

    References:
        Kingma and Ba, Adam, 2015, arXiv:1412.6980.
    """
    check_fractions("scale_by_adam", b1=b1, b2=b2)
    check_not_negative("scale_by_adam", eps=eps, eps_root=eps_root)

    def init_fn(params):
        zeros = lambda: jax.tree.map(lambda p: jnp.zeros_like(p, dtype=wide_dtype(p.dtype)), params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros(), zeros())

    def update_fn(updates, state, params=None):
        del params
        count = jnp.asarray(optax.safe_increment(state.count))

        def step(g, mean, mean_square):
            mean = average(b1, mean, g)
            mean_square = average(b2, mean_square, square(g, mean_square))
            ridge, rest = (jnp.asarray(x, mean_square.dtype) for x in (eps_root, eps))
            whole = lambda decay, x: debiased(decay, x, count) if debias else x
            divisor = root(whole(b2, mean_square) + ridge) + rest
            divisor = divisor + (divisor == 0).astype(divisor.dtype)
            return (whole(b1, mean) / divisor).astype(g.dtype), mean, mean_square

        out, mu, nu = advance(step, updates, state.mu, state.nu)
        return out, optax.ScaleByAdamState(count, mu, nu)

    return stands("direction", "scale_by_adam", optax.GradientTransformation(init_fn, update_fn))
