"""
Columns of length one
=====================

Every output unit moves equally far. Nothing is kept but the momentum. Glentis et al., 2025,
arXiv:2506.16659, find that this is much of what Adam does for matrices of language models.
"""

import jax.numpy as jnp
import optax
from small_race import look

import gradsmith as gs


def columns(x):
    norms = jnp.linalg.norm(x, axis=0, keepdims=True)
    return x / jnp.where(norms > 0, norms, 1)


def by_columns(learning_rate):
    mine = optax.chain(gs.momentum(0.95), gs.per_matrix(columns))
    directions = gs.partition_by_role(matrices=mine, others=gs.scale_by_adam())
    return optax.chain(directions, optax.scale_by_learning_rate(learning_rate))


look(by_columns, "columns")
