"""Faults inside wrappers and under schedules."""

import jax
import jax.numpy as jnp
import optax

from gradsmith.checks import Subject

from .base import MUTANTS, Momentum, Mutant, leafwise, momentum, mutant, step, zeros


def branch_on_rate(learning_rate=0.01):
    return optax.sgd(learning_rate if learning_rate < 1 else 1.0)


def branch_on_decay(learning_rate=0.01, decay=0.9):
    return optax.sgd(learning_rate, momentum=decay if decay > 0.5 else None)


def decay_near_one(learning_rate=0.01, decay=0.999):
    return optax.chain(optax.scale(1 / (1 - decay)), optax.scale_by_learning_rate(learning_rate))


MUTANTS += [
    Mutant(
        "inject_learning_rate",
        Subject("branch on rate", branch_on_rate),
        "Python looks at a number that jit has not computed yet",
    ),
    Mutant(
        "inject_all_floats",
        Subject("branch on decay", branch_on_decay),
        "Python looks at a number that jit has not computed yet",
    ),
    Mutant("inject_bf16", Subject("decay near one", decay_near_one), "0.999 is 1.0"),
]


@mutant("multisteps", "update of accumulation.*passed by name", rate=False)
def params_by_keyword_are_lost():
    def update(updates, state, *positional, **by_keyword):
        for params in positional:
            updates = jax.tree.map(lambda u, p: u + 0.1 * p, updates, params)
        return updates, state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


@mutant("apply_if_finite", "a mutated container")
def momentum_written_in_place():
    def update(updates, state, params=None):
        updates, new = step(updates, Momentum(state["momentum"]))
        state["momentum"] = new.momentum
        return updates, state

    return momentum(lambda params: {"momentum": zeros(params).momentum}, update)


@mutant("tree_map_params", "looks at the parameters .shapes, leaves, paths")
def flat_state():
    def update(updates, state, params=None):
        leaves, tree = jax.tree.flatten(updates)
        new = [0.9 * m + u for m, u in zip(state, leaves, strict=True)]
        return jax.tree.unflatten(tree, new), new

    return momentum(lambda params: [jnp.zeros_like(p) for p in jax.tree.leaves(params)], update)


@mutant("inject_learning_rate", "looks at the learning rate .an `if`", rate=False)
def another_rate_when_injected_and_tiny(learning_rate=1e-9):
    factor = 1 if isinstance(learning_rate, float) else 3
    rule = lambda u: -factor * jnp.asarray(learning_rate, u.dtype) * u
    return leafwise(rule)


@mutant(
    "inject_learning_rate", "new state of an injected rate.*looks at the learning rate", rate=False
)
def another_momentum_when_injected(learning_rate=0.01):
    decay = 0.9 if isinstance(learning_rate, float) else 0.5

    def update(updates, state, params=None):
        new = jax.tree.map(lambda m, u: decay * m + decay * u, state.momentum, updates)
        return jax.tree.map(lambda u: -u * jnp.asarray(learning_rate, u.dtype), updates), Momentum(
            new
        )

    return momentum(update=update)


@mutant("multisteps", "new state of accumulation.*passed by name", rate=False)
def params_by_keyword_enter_the_state_alone():
    def update(updates, state, *positional, **by_keyword):
        seen = positional[0] if positional else optax.tree.zeros_like(updates)
        return updates, step(seen, state)[1]

    return optax.GradientTransformationExtraArgs(zeros, update)
