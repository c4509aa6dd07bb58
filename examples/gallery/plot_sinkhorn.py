"""
Sinkhorn
========

Rows and columns are scaled in turns until both have equal norms. No state at all. Scetbon et
al., 2025, arXiv:2502.06742.
"""

import jax.numpy as jnp
import optax
from small_race import look

import gradsmith as gs


def sinkhorn(x, rounds=5):
    m, n = x.shape
    for _ in range(rounds):
        x = x * jnp.sqrt(n) / (jnp.linalg.norm(x, axis=1, keepdims=True) + 1e-8)
        x = x * jnp.sqrt(m) / (jnp.linalg.norm(x, axis=0, keepdims=True) + 1e-8)
    return x


def sink_gd(learning_rate):
    mine = gs.per_matrix(sinkhorn)
    directions = gs.partition_by_role(matrices=mine, others=gs.scale_by_adam())
    return optax.chain(directions, optax.scale_by_learning_rate(learning_rate))


look(sink_gd, "Sinkhorn")
