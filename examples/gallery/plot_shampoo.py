"""
Shampoo
=======

Sums of Gram matrices on both sides, and their inverse fourth roots. Gupta et al., 2018,
arXiv:1802.09568. ``gs.shampoo`` refreshes the roots from time to time, cuts large matrices into
blocks, and grafts.
"""

import jax.numpy as jnp
import optax
from small_race import look

import gradsmith as gs


def two_sides(decay=0.95):
    def init(stack):
        k, m, n = stack.shape
        return jnp.zeros((k, m, m), stack.dtype), jnp.zeros((k, n, n), stack.dtype)

    def update(x, state, params=None):
        left = decay * state[0] + (1 - decay) * x @ x.mT
        right = decay * state[1] + (1 - decay) * x.mT @ x
        root = lambda a: gs.matrix.inverse_root(a, 4, method="eigh", eps=1e-6)
        return root(left) @ x @ root(right), (left, right)

    return optax.GradientTransformation(init, update)


def shampoo(learning_rate):
    mine = optax.chain(gs.per_stack(two_sides()), gs.momentum(0.9))
    directions = gs.partition_by_role(matrices=mine, others=gs.scale_by_adam())
    return optax.chain(directions, optax.scale_by_learning_rate(learning_rate))


look(shampoo, "Shampoo")
