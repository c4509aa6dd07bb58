"""The optimizer of the README: yours is the formula, the rest is wiring."""

import jax.numpy as jnp
import optax

import gradsmith as gs


def my_step(update):
    """One matrix, (fan_in, fan_out), in and out: every output unit moves equally far."""
    norms = jnp.linalg.norm(update, axis=0, keepdims=True)
    return update / jnp.where(norms > 0, norms, 1)


def my_optimizer(learning_rate):
    """Hidden matrices by my formula, everything else by Adam."""
    mine = optax.chain(gs.momentum(0.95), gs.per_matrix(my_step))
    directions = gs.partition_by_role(matrices=mine, others=gs.scale_by_adam(b2=0.95))
    return optax.chain(directions, optax.scale_by_learning_rate(learning_rate))


def make_params():
    """A model to describe; shapes are enough."""
    block = {"query": jnp.zeros((64, 64)), "up": jnp.zeros((64, 256)), "up_bias": jnp.zeros(256)}
    return {"embedding": jnp.zeros((80, 64)), "blocks": [block, block], "head": jnp.zeros((64, 80))}
