"""Faults of large leaves, of late steps, and of one kind of leaf alone."""

import jax
import jax.numpy as jnp
import optax

from .base import leafwise, mutant


def counted(rule):
    """A rule of the leaf and of the number of the step, which begins at zero."""

    def update(updates, state, params=None):
        new = {"count": optax.safe_increment(state["count"])}
        return jax.tree.map(lambda u: rule(u, state["count"]), updates), new

    return optax.GradientTransformation(lambda params: {"count": jnp.zeros((), jnp.int32)}, update)


def normalized(u):
    return u / jnp.sqrt(jnp.mean(u * u))


@mutant("workout_finite", "large or stacked leaves")
def nan_for_leaves_of_128_or_more():
    return leafwise(lambda u: u * (jnp.nan if u.size >= 128 else 1.0))


@mutant("workout_finite", "large or stacked leaves")
def large_matrices_unguarded():
    return leafwise(lambda u: normalized(u) if u.ndim == 2 and min(u.shape) >= 128 else u)


@mutant("workout_finite", "large or stacked leaves")
def stacks_unguarded():
    def rule(u):
        return u / jnp.sqrt(jnp.mean(u * u, (-2, -1), keepdims=True)) if u.ndim == 3 else u

    return leafwise(rule)


@mutant("workout_finite", "large or stacked leaves")
def long_vectors_unguarded():
    return leafwise(lambda u: normalized(u) if u.ndim == 1 and u.size > 256 else u)


@mutant("workout_finite", "after step 10 .*a step that comes seldom")
def every_tenth_step_unguarded():
    return counted(lambda u, n: jnp.where(n % 10 == 9, u / jnp.float32(n - 9).astype(u.dtype), u))


@mutant("workout_finite", "after step 21 .*divides by what is zero by then")
def bias_correction_from_the_wrong_end():
    return counted(lambda u, n: u / (jnp.float32(20 - n) / 20).astype(u.dtype))


@mutant("workout_bounded", "almost zero when they return")
def denominator_of_the_step_before():
    def init(params):
        return {"second": jax.tree.map(jnp.ones_like, params)}

    def update(updates, state, params=None):
        rule = lambda u, v: u / (jnp.sqrt(v) + jnp.asarray(1e-9, u.dtype))
        new = jax.tree.map(lambda u, v: 1e-4 * v + u * u, updates, state["second"])
        return jax.tree.map(rule, updates, state["second"]), {"second": new}

    return optax.GradientTransformation(init, update)


@mutant("workout_bounded", "an accumulator grows")
def momentum_that_grows():
    return optax.trace(1.7)


@mutant("workout_bounded", "the size of a leaf enters")
def long_vectors_scaled_by_their_size():
    return leafwise(lambda u: u * (u.size**2 if u.size > 256 and u.ndim == 1 else 1))


@mutant("leaves_descend", "gets the wrong sign")
def large_leaves_climb():
    return leafwise(lambda u: -u if u.size > 256 else u)


@mutant("leaves_descend", "gets the wrong sign")
def matrices_above_128_climb():
    return leafwise(lambda u: -u if u.ndim == 2 and min(u.shape) > 128 else u)


@mutant("leaves_descend", r"\['stack'\].*gets the wrong sign")
def stacks_climb():
    return leafwise(lambda u: -u if u.ndim == 3 else u)


@mutant("leaves_descend", "gets the wrong sign")
def scalars_climb():
    return leafwise(lambda u: -u if u.ndim == 0 else u)


@mutant("leaves_descend", "gets the wrong sign")
def rows_climb():
    return leafwise(lambda u: -u if u.ndim == 2 and u.shape[0] == 1 else u)


@mutant("leaves_descend", "the sign changes after some steps")
def uphill_after_ten_steps():
    return counted(lambda u, n: jnp.where(n < 10, u, -u))


@mutant("leaves_move", "falls through all branches")
def large_leaves_fall_through():
    return leafwise(lambda u: 0 * u if u.size > 1000 else u)
