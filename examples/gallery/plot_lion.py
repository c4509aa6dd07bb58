"""
Lion
====

The sign of an average that looks further ahead than the one that is kept. Optax has it; here it
is a rule for stacks of matrices with a state of its own. Chen et al., 2023, arXiv:2302.06675.
"""

import jax.numpy as jnp
import optax
from small_race import look

import gradsmith as gs


def lion_rule(b1=0.9, b2=0.99):
    def update(stack, mean, params=None):
        return jnp.sign(b1 * mean + (1 - b1) * stack), b2 * mean + (1 - b2) * stack

    return optax.GradientTransformation(jnp.zeros_like, update)


def lion(learning_rate):
    mine = gs.per_stack(lion_rule())
    directions = gs.partition_by_role(matrices=mine, others=gs.scale_by_adam())
    return optax.chain(directions, optax.scale_by_learning_rate(learning_rate))


look(lion, "Lion")
