"""
SWAN
====

Rows are normalized, then the matrix is whitened, which is the polar factor again. No state. Ma
et al., 2024, arXiv:2412.13148.
"""

import jax.numpy as jnp
import optax
from small_race import look

import gradsmith as gs


def whitened_rows(x):
    size = jnp.sqrt(jnp.mean(x**2, axis=1, keepdims=True))
    return gs.matrix.orthogonalize(x / jnp.where(size > 0, size, 1), max_error=0.01)


def swan(learning_rate):
    mine = gs.per_matrix(whitened_rows)
    directions = gs.partition_by_role(matrices=mine, others=gs.scale_by_adam())
    return optax.chain(directions, optax.scale_by_learning_rate(learning_rate))


look(swan, "SWAN")
