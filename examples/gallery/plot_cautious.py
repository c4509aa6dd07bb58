"""
Cautious Muon
=============

What points against the gradient is left out, and the rest is scaled up. Liang et al., 2024,
arXiv:2411.16085, for Adam and Lion; here around Muon. A rule of single numbers needs no matrix,
so it is plain Optax.
"""

import jax
import jax.numpy as jnp
import optax
from small_race import look

import gradsmith as gs


def cautious(inner):
    def update(grads, state, params=None):
        updates, state = inner.update(grads, state, params)

        def agree(u, g):
            mask = (u * g > 0).astype(u.dtype)
            return u * mask / jnp.maximum(jnp.mean(mask), 1e-3)

        return jax.tree.map(agree, updates, grads), state

    return optax.GradientTransformation(inner.init, update)


def cautious_muon(learning_rate):
    muon = optax.chain(gs.momentum(0.95), gs.orthogonalize())
    directions = gs.partition_by_role(matrices=cautious(muon), others=gs.scale_by_adam())
    return optax.chain(directions, optax.scale_by_learning_rate(learning_rate))


look(cautious_muon, "cautious Muon")
