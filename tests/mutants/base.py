"""What a mutant is, and the healthy momentum that most are made from."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gradsmith.checks import Subject


class Mutant(NamedTuple):
    """A faulty subject, and how it must be found out.

    Attributes:
        check: The name of the check that must fail on it.
        subject: The subject.
        told: A regular expression that is found in what that check says of what it saw and why.
    """

    check: str
    subject: Subject
    told: str


MUTANTS: list[Mutant] = []


def mutant(check: str, told: str, rate: bool = True, **declared: Any) -> Callable:
    """List a function that returns a transformation, and put a rate behind what it returns.

    `told` is what the check must say of it, as in `Mutant`.

    With `rate=False` the function is the factory itself. The factory is what the name stands for
    afterwards, so that a reproducer can import it.
    """

    def register(make: Callable[[], Any]) -> Callable:
        def factory(learning_rate=0.01):
            return optax.chain(make(), optax.scale_by_learning_rate(learning_rate))

        subject = factory if rate else make
        for name in ("__module__", "__name__", "__qualname__"):
            setattr(subject, name, getattr(make, name))
        name = make.__name__.replace("_", " ")
        MUTANTS.append(Mutant(check, Subject(name, subject, **declared), told))
        return subject

    return register


class Momentum(NamedTuple):
    momentum: Any


def leafwise(rule: Callable) -> optax.GradientTransformation:
    """Without state: the rule on every leaf."""
    return optax.stateless(lambda updates, params: jax.tree.map(rule, updates))


def zeros(params):
    return Momentum(jax.tree.map(jnp.zeros_like, params))


def step(updates, state, params=None):
    momentum = jax.tree.map(lambda m, u: 0.9 * m + u, state.momentum, updates)
    return momentum, Momentum(momentum)


def momentum(init=zeros, update=step) -> optax.GradientTransformation:
    return optax.GradientTransformation(init, update)


def scaled_inside(scale):
    """Scale a tree by an array that only a program inside the program holds."""
    factor = np.full((2,), scale, np.float32)
    rule = lambda u: u * jnp.asarray(factor)[0].astype(u.dtype)
    return jax.jit(lambda tree: jax.tree.map(rule, tree))


def scaled_in_a_scan(scale):
    """Scale a tree inside the body of a scan, by an array that the body has captured."""
    factor = np.full((2,), scale, np.float32)

    def body(tree, _):
        return jax.tree.map(lambda u: u * jnp.asarray(factor)[0].astype(u.dtype), tree), None

    return lambda tree: jax.lax.scan(body, tree, length=1)[0]


def scaled_under_a_custom_derivative(scale):
    """Scale a tree by an array that a function with a custom derivative holds."""
    factor = np.full((2,), scale, np.float32)

    @jax.custom_jvp
    def rule(u):
        return u * jnp.asarray(factor)[0].astype(u.dtype)

    rule.defjvp(lambda primals, tangents: (rule(*primals), rule(*tangents)))
    return lambda tree: jax.tree.map(jax.jit(rule), tree)
