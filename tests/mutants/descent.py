"""Steps in the wrong direction, or of no size."""

import jax
import jax.numpy as jnp
import optax

from .base import mutant


@mutant("zero_params")
def scaled_by_the_parameter():
    def update(updates, params):
        return jax.tree.map(lambda u, p: u * jnp.sqrt(jnp.sum(p * p)), updates, params)

    return optax.stateless(update)


@mutant("descent_direction")
def wrong_sign():
    return optax.scale(-1.0)


@mutant("descends")
def hardly_moves():
    return optax.scale(1e-4)
