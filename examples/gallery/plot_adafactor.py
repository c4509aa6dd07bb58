"""
Adafactor
=========

Second moments in ``m + n`` numbers instead of ``m n``: the means of rows and of columns.
Shazeer and Stern, 2018, arXiv:1804.04235; here with momentum, and without its clipping.
"""

import jax.numpy as jnp
import optax
from small_race import look

import gradsmith as gs


def factored(b2=0.99):
    def init(stack):
        return jnp.zeros_like(stack[:, :, :1]), jnp.zeros_like(stack[:, :1, :])

    def update(stack, state, params=None):
        mean = lambda old, axis: b2 * old + (1 - b2) * jnp.mean(stack**2, axis, keepdims=True)
        rows, columns = mean(state[0], 2), mean(state[1], 1)
        square = rows * columns / (jnp.mean(rows, 1, keepdims=True) + 1e-30)
        return stack / (jnp.sqrt(square) + 1e-12), (rows, columns)

    return optax.GradientTransformation(init, update)


def adafactor(learning_rate):
    mine = optax.chain(gs.per_stack(factored()), gs.momentum(0.9))
    directions = gs.partition_by_role(matrices=mine, others=gs.scale_by_adam())
    return optax.chain(directions, optax.scale_by_learning_rate(learning_rate))


look(adafactor, "Adafactor")
