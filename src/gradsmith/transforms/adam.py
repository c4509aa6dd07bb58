"""Adam's direction, in arithmetic that does not depend on the dtype of the parameters."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from ..dtypes import wide_dtype


def scale_by_adam(
    b1: float | Array = 0.9, b2: float | Array = 0.95, eps: float | Array = 1e-10
) -> optax.GradientTransformation:
    """Divide the mean of the gradients by the root of their mean square.

    Equal to `optax.scale_by_adam` in float32, with the same state. Unlike it, keeps its moments and
    computes in float32 where parameters are narrower: in float16 Optax's eps is zero and a zero
    gradient gives NaN, in bfloat16 an injected `b2` of 0.999 is 1. And it never relies on implicit
    promotion, so it runs under strict dtypes.

    A direction: stands before the learning rate. State: two copies of the parameters.

    Args:
        b1: The part of the mean that survives a step.
        b2: The part of the mean square that survives a step.
        eps: Added to the root.

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

    def init_fn(params):
        zeros = lambda: jax.tree.map(lambda p: jnp.zeros_like(p, dtype=wide_dtype(p.dtype)), params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros(), zeros())

    def update_fn(updates, state, params=None):
        del params
        count = jnp.asarray(optax.safe_increment(state.count))

        def average(decay, old, new):
            decay = jnp.asarray(decay, old.dtype)
            return decay * old + (1 - decay) * new.astype(old.dtype)

        def direction(g, mean, square):
            debias = lambda decay: 1 - jnp.asarray(decay, mean.dtype) ** count.astype(mean.dtype)
            root = jnp.sqrt(square / debias(b2)) + jnp.asarray(eps, square.dtype)
            return (mean / debias(b1) / root).astype(g.dtype)

        square_of = lambda g, like: jnp.square(jnp.abs(g.astype(like.dtype)))
        mu = jax.tree.map(lambda m, g: average(b1, m, g), state.mu, updates)
        nu = jax.tree.map(lambda v, g: average(b2, v, square_of(g, v)), state.nu, updates)
        return jax.tree.map(direction, updates, mu, nu), optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init_fn, update_fn)
