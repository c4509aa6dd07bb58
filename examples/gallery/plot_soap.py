"""
SOAP
====

Adam, in the bases in which Shampoo's factors are diagonal. Vyas et al., 2024, arXiv:2409.11321.
Here the bases are new in every step, and the moments stay behind; ``gs.soap`` refreshes them
every ten steps and takes the moments along.
"""

import jax.numpy as jnp
import optax
from small_race import look

import gradsmith as gs


def in_eigenbases(decay=0.95):
    adam = gs.scale_by_adam(b2=0.95)

    def init(stack):
        k, m, n = stack.shape
        return (
            jnp.zeros((k, m, m), stack.dtype),
            jnp.zeros((k, n, n), stack.dtype),
            adam.init(stack),
        )

    def update(x, state, params=None):
        left = decay * state[0] + (1 - decay) * x @ x.mT
        right = decay * state[1] + (1 - decay) * x.mT @ x
        (_, p), (_, q) = jnp.linalg.eigh(left), jnp.linalg.eigh(right)
        rotated, moments = adam.update(p.mT @ x @ q, state[2])
        return p @ rotated @ q.mT, (left, right, moments)

    return optax.GradientTransformation(init, update)


def soap(learning_rate):
    directions = gs.partition_by_role(gs.per_stack(in_eigenbases()), others=gs.scale_by_adam())
    return optax.chain(directions, optax.scale_by_learning_rate(learning_rate))


look(soap, "SOAP")
