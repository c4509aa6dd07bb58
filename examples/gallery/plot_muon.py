"""
Muon
====

The momentum of each matrix becomes nearly orthogonal, by five steps of a polynomial that needs
products only. Jordan et al., 2024, https://kellerjordan.github.io/posts/muon. ``gs.muon`` has
the variants.
"""

import jax.numpy as jnp
import optax
from small_race import look

import gradsmith as gs


def newton_schulz(x):
    x = x / (jnp.linalg.norm(x) + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


def muon(learning_rate):
    mine = optax.chain(gs.momentum(0.95), gs.per_matrix(newton_schulz))
    directions = gs.partition_by_role(matrices=mine, others=gs.scale_by_adam())
    return optax.chain(directions, optax.scale_by_learning_rate(learning_rate))


look(muon, "Muon")
