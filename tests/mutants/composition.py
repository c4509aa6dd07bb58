"""Faults inside wrappers and under schedules."""

import jax
import jax.numpy as jnp
import optax

from gradsmith.checks import Subject

from .base import MUTANTS, Momentum, Mutant, momentum, mutant, step, zeros


def branch_on_rate(learning_rate=0.01):
    return optax.sgd(learning_rate if learning_rate < 1 else 1.0)


def branch_on_decay(learning_rate=0.01, decay=0.9):
    return optax.sgd(learning_rate, momentum=decay if decay > 0.5 else None)


def decay_near_one(learning_rate=0.01, decay=0.999):
    return optax.chain(optax.scale(1 / (1 - decay)), optax.scale_by_learning_rate(learning_rate))


def rate_in_arithmetic(learning_rate=0.01):
    return optax.chain(optax.identity(), optax.scale(-learning_rate))


def count_from_one(learning_rate=0.01):
    def init(params):
        return {"count": jnp.zeros([], jnp.int32)}

    def update(updates, state, params=None):
        count = optax.safe_increment(state["count"])
        rate = learning_rate(count) if callable(learning_rate) else learning_rate
        return jax.tree.map(lambda u: -u * rate, updates), {"count": count}

    return optax.GradientTransformation(init, update)


def average_weighted_by_the_rate(learning_rate=0.01):
    def init(params):
        return {"count": jnp.zeros([], jnp.int32), "total": jnp.zeros([], jnp.float32)}

    def update(updates, state, params=None):
        rate = learning_rate(state["count"]) if callable(learning_rate) else learning_rate
        total = state["total"] + rate
        new = {"count": optax.safe_increment(state["count"]), "total": total.astype(jnp.float32)}
        return jax.tree.map(lambda u: -u * rate * (rate / total).astype(u.dtype), updates), new

    return optax.GradientTransformation(init, update)


MUTANTS += [
    Mutant("warmup", Subject("average weighted by the rate", average_weighted_by_the_rate)),
    Mutant("schedule", Subject("count from one", count_from_one)),
    Mutant("inject_learning_rate", Subject("branch on rate", branch_on_rate)),
    Mutant("inject_all_floats", Subject("branch on decay", branch_on_decay)),
    Mutant("inject_bf16", Subject("decay near one", decay_near_one)),
    Mutant("schedule", Subject("rate in arithmetic", rate_in_arithmetic)),
]


@mutant("multisteps", rate=False)
def params_by_keyword_are_lost():
    def update(updates, state, *positional, **by_keyword):
        for params in positional:
            updates = jax.tree.map(lambda u, p: u + 0.1 * p, updates, params)
        return updates, state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


@mutant("apply_if_finite")
def momentum_written_in_place():
    def update(updates, state, params=None):
        updates, new = step(updates, Momentum(state["momentum"]))
        state["momentum"] = new.momentum
        return updates, state

    return momentum(lambda params: {"momentum": zeros(params).momentum}, update)


@mutant("tree_map_params")
def flat_state():
    def update(updates, state, params=None):
        leaves, tree = jax.tree.flatten(updates)
        new = [0.9 * m + u for m, u in zip(state, leaves, strict=True)]
        return jax.tree.unflatten(tree, new), new

    return momentum(lambda params: [jnp.zeros_like(p) for p in jax.tree.leaves(params)], update)
