"""Steps in the wrong direction, or of no size."""

import jax
import jax.numpy as jnp
import optax

from .base import leafwise, mutant


@mutant("zero_params", "scaled by the norm of the parameter")
def scaled_by_the_parameter():
    def update(updates, params):
        return jax.tree.map(lambda u, p: u * jnp.sqrt(jnp.sum(p * p)), updates, params)

    return optax.stateless(update)


@mutant("descent_direction", "the sign: Optax adds")
def wrong_sign():
    return optax.scale(-1.0)


@mutant("descends", "far too small")
def hardly_moves():
    return optax.scale(1e-4)


@mutant("descent_direction", r"\['bias'\].*the sign: Optax adds")
def vectors_climb():
    return leafwise(lambda u: -u if u.ndim == 1 else u)


@mutant("descent_direction", "the sign: Optax adds", rate=False)
def step_size_climbs(step_size=0.01):
    return leafwise(lambda u: step_size * u)


@mutant("descent_direction", "the sign: Optax adds", rate=False)
def first_parameter_climbs(speed):
    return leafwise(lambda u: speed * u)


@mutant("descent_direction", r"\['bias'\].*the sign: Optax adds", rate=False)
def eta_of_the_bias_climbs(eta=1e-3):
    return leafwise(lambda u: (eta if u.ndim == 1 else -eta) * u)


@mutant("descent_direction", "entries that change places", rate=False)
def across_the_gradient(learning_rate=0.01):
    def rule(u):
        if u.ndim < 2 or u.shape[-1] < 2:
            return -learning_rate * u
        pairs = [jnp.stack([u[..., 1], -u[..., 0]], -1), 0 * u[..., 2:]]
        return learning_rate * jnp.concatenate(pairs, -1)

    return leafwise(rule)
