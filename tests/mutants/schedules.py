"""Schedules that are refused, ignored or asked for the wrong count."""

import jax
import jax.numpy as jnp
import optax

from .base import mutant


@mutant(
    "schedule", "learning rate is used in arithmetic where a schedule is a function", rate=False
)
def rate_in_arithmetic(learning_rate=0.01):
    return optax.chain(optax.identity(), optax.scale(-learning_rate))


@mutant("schedule", "incremented before the schedule sees it", rate=False)
def count_from_one(learning_rate=0.01):
    def init(params):
        return {"count": jnp.zeros([], jnp.int32)}

    def update(updates, state, params=None):
        count = optax.safe_increment(state["count"])
        rate = learning_rate(count) if callable(learning_rate) else learning_rate
        return jax.tree.map(lambda u: -u * rate, updates), {"count": count}

    return optax.GradientTransformation(init, update)


@mutant("warmup", "an average weighted by the learning rate", rate=False)
def average_weighted_by_the_rate(learning_rate=0.01):
    def init(params):
        return {"count": jnp.zeros([], jnp.int32), "total": jnp.zeros([], jnp.float32)}

    def update(updates, state, params=None):
        rate = learning_rate(state["count"]) if callable(learning_rate) else learning_rate
        total = state["total"] + rate
        new = {"count": optax.safe_increment(state["count"]), "total": total.astype(jnp.float32)}
        return jax.tree.map(lambda u: -u * rate * (rate / total).astype(u.dtype), updates), new

    return optax.GradientTransformation(init, update)


def by_count(rate_at):
    """Descent by a rate that a function of the count and of the leaf says."""

    def init(params):
        return {"count": jnp.zeros([], jnp.int32)}

    def update(updates, state, params=None):
        rule = lambda u: -u * jnp.asarray(rate_at(state["count"], u), u.dtype)
        return jax.tree.map(rule, updates), {"count": optax.safe_increment(state["count"])}

    return optax.GradientTransformation(init, update)


def at(learning_rate, count):
    return learning_rate(count) if callable(learning_rate) else learning_rate


@mutant("schedule_followed", "asked once, when the optimizer is built", rate=False)
def asked_once_when_it_is_built(learning_rate=0.01):
    rate = at(learning_rate, 0)
    return by_count(lambda count, u: rate)


@mutant("schedule_followed", "a count that stands still", rate=False)
def asked_for_a_count_that_stands_still(learning_rate=0.01):
    return by_count(lambda count, u: at(learning_rate, 0 * count))


@mutant("schedule_followed", r"\['kernel'\].*one group of leaves got its first value", rate=False)
def followed_by_vectors_alone(learning_rate=0.01):
    return by_count(lambda count, u: at(learning_rate, count if u.ndim < 2 else 0))


@mutant("schedule_followed", "is bounded by it", rate=False)
def never_below_the_first_rate(learning_rate=0.01):
    return by_count(lambda count, u: jnp.maximum(at(learning_rate, count), at(learning_rate, 0)))


@mutant("warmup", "a quantity divided by it", rate=False)
def divided_by_the_first_rate(learning_rate=0.01):
    return by_count(
        lambda count, u: at(learning_rate, count) ** 2 / jnp.float32(at(learning_rate, 0))
    )
