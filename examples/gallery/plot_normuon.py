"""
NorMuon
=======

Muon, and then every output unit is divided by the running size of its own updates. Li et al.,
2025, arXiv:2510.05491. A chain of rules is a rule.
"""

import jax.numpy as jnp
import optax
from small_race import look

import gradsmith as gs


def unit_sizes(b2=0.95, eps=1e-8):
    def update(x, square, params=None):
        square = b2 * square + (1 - b2) * jnp.mean(x**2, axis=1, keepdims=True)
        scaled = x / (jnp.sqrt(square) + eps)
        size = lambda x: jnp.sqrt(jnp.sum(x**2, axis=(1, 2), keepdims=True))
        return scaled * size(x) / jnp.maximum(size(scaled), eps), square

    return optax.GradientTransformation(lambda x: jnp.zeros_like(x[:, :1, :]), update)


def normuon(learning_rate):
    rules = optax.chain(gs.polar_factor(), unit_sizes(), gs.scale_by_aspect_ratio())
    mine = optax.chain(gs.momentum(0.95), gs.per_stack(rules))
    directions = gs.partition_by_role(matrices=mine, others=gs.scale_by_adam())
    return optax.chain(directions, optax.scale_by_learning_rate(learning_rate))


look(normuon, "NorMuon")
