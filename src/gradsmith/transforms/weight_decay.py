"""Decoupled weight decay."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array


def decay_weights(rate: float | Array) -> optax.GradientTransformation:
    """Add `rate * params` to the direction, so that the weights shrink by `learning rate * rate`.

    A direction: stands just before the learning rate. A concrete rate of zero needs no `params`.

    Args:
        rate: The decay; not negative.

    Raises:
        ValueError: The rate is negative; or `update` gets no params while the rate is not zero.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> tx = gs.decay_weights(0.1)
        >>> params = jnp.array([2.0])
        >>> print(tx.update(jnp.array([0.0]), tx.init(params), params)[0])
        [0.2]

    References:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, arXiv:1711.05101.
    """
    if isinstance(rate, int | float):
        if rate < 0:
            raise ValueError(f"decay_weights needs a rate >= 0, got {rate}")
        if rate == 0:
            return optax.identity()

    def update_fn(updates, params=None):
        if params is None:
            raise ValueError(
                f"weight decay of {rate} needs the parameters: call update(grads, state, params), "
                f"or set the decay to 0"
            )
        return jax.tree.map(
            lambda u, p: u + (jnp.asarray(rate, p.dtype) * p).astype(u.dtype), updates, params
        )

    return optax.stateless(update_fn)
