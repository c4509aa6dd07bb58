"""Faults at the ends of the range."""

import jax
import jax.numpy as jnp
import optax

from .base import leafwise, mutant


@mutant("zero_grads", "a division by a norm")
def divides_by_its_norm():
    return leafwise(lambda u: u / jnp.sqrt(jnp.sum(u * u)))


@mutant("one_zero_leaf", "a ratio of two leaves' norms")
def ratio_of_norms():
    def update(updates, params):
        total = optax.tree.norm(updates)

        def rule(u):
            ratio = (total / jnp.sqrt(jnp.sum(u * u))).astype(u.dtype)
            return jnp.where(total > 0, u * ratio, u)

        return jax.tree.map(rule, updates)

    return optax.stateless(update)


@mutant("rank_one_grads", "eigenvalues that rounding made zero or negative")
def roots_of_rounded_eigenvalues():
    def rule(u):
        if u.ndim < 2:
            return u
        values, vectors = jnp.linalg.eigh(u.mT @ u + 1e-12 * jnp.eye(u.shape[-1], dtype=u.dtype))
        return u @ (vectors / jnp.sqrt(values)[..., None, :]) @ vectors.mT

    return leafwise(rule)


@mutant("huge_grads", "a fourth power")
def fourth_powers():
    def rule(u):
        fourth = jnp.mean(u * u * u * u) ** 0.25
        return u * (fourth + 1e-8) / (fourth + 1e-8)

    return leafwise(rule)


@mutant("tiny_grads", "underflows to zero")
def squares_that_underflow():
    return leafwise(lambda u: jnp.where(u == 0, 0.0, u / jnp.sqrt(jnp.sum(u * u))))


@mutant("debug_nans", "a NaN is made and thrown away by jnp.where")
def nan_thrown_away():
    def rule(u):
        norm = jnp.sqrt(jnp.sum(u * u))
        return jnp.where(norm > 0, u / norm, 0.0)

    return leafwise(rule)


@mutant("count_saturates", "counter at 2147483647 became -2147483648.*wraps around")
def counter_that_wraps():
    return optax.GradientTransformation(
        lambda params: {"count": jnp.zeros([], jnp.int32)},
        lambda u, s, params=None: (u, {"count": s["count"] + 1}),
    )


@mutant("count_saturates", "counter at 255 became 0.*wraps around")
def small_counter_that_wraps():
    return optax.GradientTransformation(
        lambda params: {"count": jnp.zeros([], jnp.uint8)},
        lambda u, s, params=None: (u, {"count": s["count"] + 1}),
    )
