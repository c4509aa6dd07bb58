"""Claims that do not hold."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gradsmith.checks import Subject

from .base import MUTANTS, Mutant, leafwise, mutant


def newton_schulz(x, steps=5, eps=1e-7, axes=(-2, -1)):
    x = x / (jnp.sqrt(jnp.sum(x * x, axis=axes, keepdims=True)) + eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


def matrices_by(rule):
    return leafwise(lambda u: rule(u) if u.ndim >= 2 else u)


@mutant(
    "polar_factor",
    "singular values are .*too few or wrong Newton-Schulz",
    claims={"polar_factor": (0.68, 1.21)},
)
def one_step_of_five():
    return matrices_by(lambda u: newton_schulz(u, steps=1))


@mutant(
    "polar_factor",
    "singular vectors differ.*treated one by one",
    claims={"polar_factor": (0.1, 10.0)},
)
def other_singular_vectors():
    return matrices_by(jnp.sign)


@mutant("orthogonal_equivariance", "treated one by one", claims={"orthogonal_equivariance": True})
def entry_by_entry():
    return matrices_by(jnp.sign)


@mutant("scale_invariance", "an eps that is not small", claims={"scale_invariance": True})
def large_eps():
    return matrices_by(lambda u: newton_schulz(u, eps=0.1))


@mutant("transposition", "the wide and the tall case", claims={"transposition": True})
def one_step_less_for_wide():
    return matrices_by(lambda u: newton_schulz(u, steps=5 if u.shape[-2] > u.shape[-1] else 2))


STACK = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)


@mutant(
    "stack_equals_loop",
    "over the whole stack",
    rate=False,
    params=STACK,
    claims={"stack_equals_loop": True},
)
def norm_over_the_stack():
    return optax.stateless(lambda u, p: newton_schulz(u, axes=None))


@mutant("leaf_independent", "a global norm", claims={"leaf_independent": True})
def global_norm():
    return optax.clip_by_global_norm(0.1)


def rate_squared(learning_rate=0.01):
    return optax.sgd(learning_rate**2)


MUTANTS.append(
    Mutant(
        "rate_linear",
        Subject("rate squared", rate_squared, claims={"rate_linear": True}),
        "the learning rate enters twice",
    )
)


@mutant("differentiable", "a while_loop", claims={"differentiable": True})
def loop_of_unknown_length():
    def rule(u):
        return jax.lax.while_loop(lambda x: jnp.sum(x * x) > 1, lambda x: x / 2, u)

    return leafwise(rule)
