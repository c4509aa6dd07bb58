"""
Adam-mini
=========

One second moment for each output unit. Zhang et al., 2024, arXiv:2406.16793.
"""

import jax.numpy as jnp
import optax
from small_race import look

import gradsmith as gs


def one_a_unit(b2=0.95, eps=1e-8):
    def init(stack):
        return jnp.zeros((), jnp.int32), jnp.zeros_like(stack[:, :1, :])

    def update(stack, state, params=None):
        step, square = state
        step, square = step + 1, b2 * square + (1 - b2) * jnp.mean(stack**2, 1, keepdims=True)
        debiased = square / (1 - b2 ** step.astype(square.dtype))
        return stack / (jnp.sqrt(debiased) + eps), (step, square)

    return optax.GradientTransformation(init, update)


def adam_mini(learning_rate):
    mine = optax.chain(gs.per_stack(one_a_unit()), gs.momentum(0.9))
    directions = gs.partition_by_role(matrices=mine, others=gs.scale_by_adam())
    return optax.chain(directions, optax.scale_by_learning_rate(learning_rate))


look(adam_mini, "Adam-mini")
