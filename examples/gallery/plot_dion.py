"""
Dion
====

Orthonormal in the leading subspace alone, which one step of power iteration follows. What is
left out stays in the momentum. Ahn et al., 2025, arXiv:2504.05295.
"""

import jax.numpy as jnp
import optax
from small_race import look

import gradsmith as gs


def leading(rank=8, mu=0.95):
    def init(x):
        basis = jnp.eye(x.shape[2], min(rank, *x.shape[1:]), dtype=x.dtype)
        return jnp.zeros_like(x), jnp.broadcast_to(basis, (x.shape[0], *basis.shape))

    def update(x, state, params=None):
        momentum, v = state[0] + x, state[1]
        p = jnp.linalg.qr(momentum @ v)[0]
        r = momentum.mT @ p
        left = momentum - (1 - mu) * p @ r.mT
        norms = jnp.linalg.norm(r, axis=1, keepdims=True)
        v = r / jnp.where(norms > 0, norms, 1)
        return p @ v.mT, (left, v)

    return optax.GradientTransformation(init, update)


def dion(learning_rate):
    directions = gs.partition_by_role(gs.per_stack(leading()), others=gs.scale_by_adam())
    return optax.chain(directions, optax.scale_by_learning_rate(learning_rate))


look(dion, "Dion")
