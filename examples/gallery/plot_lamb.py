"""
LAMB
====

Adam's direction, scaled so that the step is a part of the norm of the weights. You et al.,
2019, arXiv:1904.00962. A rule that sees parameters gets them as its third argument.
"""

import jax.numpy as jnp
import optax
from small_race import look

import gradsmith as gs


def trust_ratio(stack, params):
    size = lambda x: jnp.sqrt(jnp.sum(x**2, axis=(1, 2), keepdims=True))
    ratio = size(params) / jnp.maximum(size(stack), 1e-12)
    return stack * jnp.where(size(params) > 0, ratio, 1)


def lamb(learning_rate):
    scaled = gs.per_stack(optax.stateless(trust_ratio))
    mine = optax.chain(gs.scale_by_adam(), scaled)
    directions = gs.partition_by_role(matrices=mine, others=gs.scale_by_adam())
    return optax.chain(directions, optax.scale_by_learning_rate(learning_rate))


look(lamb, "LAMB")
