"""
One-sided Shampoo
=================

The Gram matrix of the smaller side alone, and its inverse square root: half the memory, and at
least as good a bound. Xie et al., 2025, arXiv:2503.10537; An et al. (ASGO), 2025,
arXiv:2503.20762.
"""

import jax.numpy as jnp
import optax
from small_race import look

import gradsmith as gs


def one_side(decay=0.95):
    def init(stack):
        k, m, _ = stack.shape
        return jnp.zeros((k, m, m), stack.dtype)

    def update(x, gram, params=None):
        gram = decay * gram + (1 - decay) * x @ x.mT
        return gs.matrix.inverse_root(gram, 2, method="eigh", eps=1e-6) @ x, gram

    return optax.GradientTransformation(init, update)


def one_sided(learning_rate):
    mine = optax.chain(gs.per_stack(one_side()), gs.momentum(0.9))
    directions = gs.partition_by_role(matrices=mine, others=gs.scale_by_adam())
    return optax.chain(directions, optax.scale_by_learning_rate(learning_rate))


look(one_sided, "one-sided Shampoo")
