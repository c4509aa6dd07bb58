"""Updates that depend on more than their arguments."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .base import (
    Momentum,
    leafwise,
    momentum,
    mutant,
    scaled_in_a_scan,
    scaled_inside,
    scaled_under_a_custom_derivative,
    step,
    zeros,
)


@mutant("inputs_not_mutated", r"state\[key\] = ")
def state_written_in_place():
    def update(updates, state, params=None):
        state["momentum"] = jax.tree.map(lambda m, u: 0.9 * m + u, state["momentum"], updates)
        return updates, state

    return momentum(init=lambda params: {"momentum": zeros(params).momentum}, update=update)


@mutant("pure", "changes from call to call")
def counter_in_the_closure():
    calls = itertools.count(1)
    return leafwise(lambda u: u / next(calls))


@mutant("deterministic_instances", "instances share something that changes")
def every_instance_its_own_scale(scales=itertools.count(1)):  # noqa: B008
    scale = next(scales)
    return leafwise(lambda u: u / scale)


@mutant("two_models", "what it learnt of the parameters .shapes")
def size_remembered_in_the_closure():
    memory = {}

    def init(params):
        memory["size"] = len(jax.tree.leaves(params)) + sum(x.size for x in jax.tree.leaves(params))
        return zeros(params)

    def update(updates, state, params=None):
        updates, state = step(updates, state)
        return jax.tree.map(lambda u: u / memory["size"], updates), state

    return momentum(init, update)


class Halved(optax.GradientTransformationExtraArgs):
    """Its method `update` is not the field that a chain unpacks."""

    def update(self, updates, state, params=None, **extra_args):
        updates, state = self[1](updates, state, params)
        return jax.tree.map(lambda u: u / 2, updates), state


class HalvedInside(optax.GradientTransformationExtraArgs):
    """The same, and the factor is an array in a program inside the program."""

    def update(self, updates, state, params=None, **extra_args):
        return scaled_inside(0.5)(updates), state


@mutant("chain", "a method that does something else than the field", rate=False)
def a_method_beside_the_field():
    return Halved(zeros, lambda u, s, params=None, **extra_args: step(u, s))


@mutant("chain", "a method that does something else than the field", rate=False)
def a_method_with_another_nested_constant():
    return HalvedInside(
        zeros, lambda updates, state, params=None: (scaled_inside(1.0)(updates), state)
    )


def counting(scaler):
    """The gradient, each time one larger."""
    calls = itertools.count(1)
    return optax.stateless(lambda updates, params: scaler(1.0 / next(calls))(updates))


@mutant("pure", "changes from call to call")
def counter_in_a_nested_jit():
    return counting(scaled_inside)


@mutant("pure", "changes from call to call")
def counter_in_the_body_of_a_scan():
    return counting(scaled_in_a_scan)


@mutant("pure", "changes from call to call")
def counter_under_a_custom_derivative():
    return counting(scaled_under_a_custom_derivative)


@mutant("pure", "a random number of numpy")
def noise_of_numpy_in_a_nested_jit():
    rng = np.random.default_rng(0)
    return optax.stateless(lambda updates, params: scaled_inside(rng.random())(updates))


@mutant("deterministic_instances", "instances share something that changes")
def every_instance_its_own_nested_scale(scales=itertools.count(1)):  # noqa: B008
    scale = scaled_inside(1.0 / next(scales))
    return optax.stateless(lambda updates, params: scale(updates))


@mutant("two_models", "what it learnt of the parameters .shapes")
def size_remembered_in_a_nested_jit():
    memory = {}

    def init(params):
        memory["size"] = 1.0 + sum(x.size for x in jax.tree.leaves(params))
        return zeros(params)

    def update(updates, state, params=None):
        updates, state = step(updates, state)
        return scaled_inside(1 / memory["size"])(updates), state

    return momentum(init, update)


@mutant(
    "state_moves", "every leaf of the state is as `init` made it.*returns the state it was given"
)
def old_state_returned():
    return momentum(update=lambda updates, state, params=None: (step(updates, state)[0], state))


@mutant("state_moves", "second.*still zero.*computes a new moment and drops it")
def second_moment_dropped():
    def init(params):
        return {"first": zeros(params), "second": zeros(params)}

    def update(updates, state, params=None):
        updates, first = step(updates, state["first"])
        return updates, {"first": first, "second": state["second"]}

    return momentum(init, update)


@mutant("numpy_inputs", "writes into an array")
def scaled_in_place():
    def rule(u):
        u *= 0.5
        return u

    return leafwise(rule)


class OtherState(optax.GradientTransformationExtraArgs):
    """Its method returns another state than the field that a chain unpacks."""

    def update(self, updates, state, params=None, **extra_args):
        _, new = self[1](updates, state, params)
        return updates, jax.tree.map(lambda m: m / 2, new)


@mutant(
    "chain", "new state of a chain.*a method that does something else than the field", rate=False
)
def a_method_that_keeps_another_state():
    return OtherState(zeros, lambda u, s, params=None, **extra_args: (u, step(u, s)[1]))


@mutant("numpy_inputs", "new state of numpy arrays.*asks of what type an array is")
def momentum_of_numpy_is_not_decayed():
    def update(updates, state, params=None):
        given = all(isinstance(u, np.ndarray) for u in jax.tree.leaves(updates))
        rule = lambda m, u: (1.0 if given else 0.9) * m + u * (1.0 if given else 0.5)
        return updates, Momentum(jax.tree.map(rule, state.momentum, updates))

    return momentum(update=update)


@mutant("numpy_inputs", "asks of what type an array is", rate=False)
def a_tiny_rate_is_doubled_for_numpy(learning_rate=1e-9):
    def rule(u):
        return u * jnp.float32(-learning_rate * (2 if isinstance(u, np.ndarray) else 1))

    return leafwise(rule)


@mutant("deterministic_instances", "instances share something that changes")
def every_instance_its_own_momentum(numbers=itertools.count(1)):  # noqa: B008
    decay = 1 / next(numbers)

    def update(updates, state, params=None):
        new = jax.tree.map(lambda m, u: decay * m + decay * u, state.momentum, updates)
        return updates, Momentum(new)

    return momentum(update=update)
