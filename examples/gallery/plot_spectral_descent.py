"""
Spectral descent
================

The steepest descent in the spectral norm: the polar factor, times the sum of the singular
values. So the update shrinks with the gradient, which Muon's does not. Carlson et al., 2015;
with momentum, PolarGrad (Lau et al., 2025, arXiv:2505.21799).
"""

import jax.numpy as jnp
import optax
from small_race import look

import gradsmith as gs


def steepest(x):
    polar = gs.matrix.orthogonalize(x, "svd")
    return jnp.sum(polar * x) * polar  # <polar, x> is the sum of the singular values of x


def spectral_descent(learning_rate):
    mine = optax.chain(gs.momentum(0.9), gs.per_matrix(steepest))
    directions = gs.partition_by_role(matrices=mine, others=gs.scale_by_adam())
    return optax.chain(directions, optax.scale_by_learning_rate(learning_rate))


look(spectral_descent, "spectral descent")
