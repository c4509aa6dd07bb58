"""Twenty-one healthy optimizers in unusual styles: no check that must pass may fail on one of them.

Each is a factory of an algorithm that is right, written as people write: state in a dict, a list, a
dataclass, one vector or nothing at all; functions in closures, classes and wrappers; schedules,
keys and hyperparameters in the state.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gradsmith.checks import Subject

ZOO: list[Subject] = []


def healthy(**declared: Any):
    """List a factory, and what it declares of itself."""

    def register(factory):
        ZOO.append(Subject(factory.__name__, factory, **declared))
        return factory

    return register


def scaled(tree: Any, by: Any) -> Any:
    return jax.tree.map(lambda x: (x * by).astype(x.dtype), tree)


def heavy_ball(momentum: Any, updates: Any) -> Any:
    return jax.tree.map(lambda m, u: (0.9 * m + u).astype(m.dtype), momentum, updates)


class Average(NamedTuple):
    momentum: Any


@healthy()
def state_in_a_named_tuple(learning_rate):
    def init(params):
        return Average(optax.tree.zeros_like(params))

    def update(updates, state, params=None):
        new = heavy_ball(state.momentum, updates)
        return scaled(new, -learning_rate), Average(new)

    return optax.GradientTransformation(init, update)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Moments:
    first: Any
    second: Any
    count: jax.Array


@healthy()
def state_in_a_dataclass(learning_rate: float = 0.02):
    """Adam in float32 inside, whatever comes."""
    wide = lambda tree: jax.tree.map(lambda x: jnp.zeros_like(x, jnp.float32), tree)

    def init(params):
        return Moments(wide(params), wide(params), jnp.zeros((), jnp.int32))

    def update(updates, state, params=None):
        del params
        count = optax.safe_increment(state.count)
        t = count.astype(jnp.float32)
        decay = lambda b, power: lambda m, u: b * m + (1 - b) * u.astype(jnp.float32) ** power
        first = jax.tree.map(decay(0.9, 1), state.first, updates)
        second = jax.tree.map(decay(0.99, 2), state.second, updates)

        def one(u, m, v):
            step = (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.99**t)) + 1e-8)
            return (-learning_rate * step).astype(u.dtype)

        return jax.tree.map(one, updates, first, second), Moments(first, second, count)

    return optax.GradientTransformation(init, update)


@healthy()
def state_in_a_dict(lr):
    def init(params):
        return {"sum": optax.tree.zeros_like(params), "steps": jnp.zeros((), jnp.uint32)}

    def update(updates, state, params=None):
        total = jax.tree.map(lambda s, u: s + u * u, state["sum"], updates)
        down = lambda u, s: (-lr * u / (jnp.sqrt(s) + jnp.asarray(1e-6, u.dtype))).astype(u.dtype)
        new = {"sum": total, "steps": state["steps"] + jnp.ones((), jnp.uint32)}
        return jax.tree.map(down, updates, total), new

    return optax.GradientTransformation(init, update)


@healthy()
def state_in_a_list(eta):
    """A tree of averages, and the number of steps."""

    def init(params):
        return [optax.tree.zeros_like(params), jnp.zeros((1,), jnp.int32)]

    def update(updates, state, params=None):
        mean = lambda m, u: (0.5 * m + 0.5 * u).astype(u.dtype)
        new = jax.tree.map(mean, state[0], updates)
        return scaled(new, -eta), [new, optax.safe_increment(state[1])]

    return optax.GradientTransformation(init, update)


@healthy()
def no_state_at_all(step_size=0.1):
    def update(updates, params):
        del params
        return jax.tree.map(lambda u: -(step_size * jnp.tanh(u)).astype(u.dtype), updates)

    return optax.stateless(update)


@healthy()
def one_global_norm(learning_rate):
    """All leaves are scaled together."""

    def update(updates, params):
        del params
        norm = optax.tree.norm(optax.tree.cast(updates, jnp.float32))
        return scaled(updates, -learning_rate / jnp.maximum(norm, 1e-6))

    return optax.stateless(update)


class Optimizer:
    """Methods, and hyperparameters as attributes that never change."""

    def __init__(self, learning_rate, decay):
        self.learning_rate, self.decay = learning_rate, decay

    def init(self, params):
        return (optax.tree.zeros_like(params),)

    def update(self, updates, state, params=None):
        new = jax.tree.map(lambda m, u: self.decay * m + (1 - self.decay) * u, state[0], updates)
        return scaled(new, -self.learning_rate), (new,)


@healthy()
def methods_of_an_object(learning_rate, decay=0.75):
    made = Optimizer(learning_rate, decay)
    return optax.GradientTransformation(made.init, made.update)


@healthy()
def partials(learning_rate):
    def update(updates, state, params=None, *, rate):
        return scaled(updates, -rate), state

    bound = functools.partial(update, rate=learning_rate)
    return optax.GradientTransformation(lambda params: None, bound)


@healthy(extra_args=lambda loss, params, grads: {"value": loss(params)})
def wants_the_loss(learning_rate):
    """Polyak's step, never longer than the rate."""

    def update(updates, state, params=None, *, value, **others):
        del params, others
        squares = optax.tree.norm(updates, squared=True)
        step = jnp.minimum(learning_rate, value / jnp.maximum(squares, 1e-12))
        return scaled(updates, -step), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


@healthy(traits={"needs_params"})
def by_the_size_of_the_weights(learning_rate):
    """As LARS and Fromage: a zero weight is stepped from as one of size one."""

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("params are needed: their norm sets the size of a step")

        def one(u, p):
            weight, size = jnp.linalg.norm(p.ravel()), jnp.linalg.norm(u.ravel())
            trust = jnp.where(weight > 0, weight, 1) / jnp.where(size > 0, size, 1)
            return (-learning_rate * trust.astype(u.dtype) * u).astype(u.dtype)

        return jax.tree.map(one, updates, params), state

    return optax.GradientTransformation(optax.init_empty_state, update)


@healthy()
def by_shape(learning_rate):
    """Matrices go to one optimizer, the rest to another."""
    kinds = lambda params: jax.tree.map(lambda p: "matrix" if p.ndim == 2 else "rest", params)
    each = {"matrix": optax.sgd(learning_rate, momentum=0.9), "rest": optax.lion(learning_rate)}
    return optax.multi_transform(each, kinds)


@healthy(traits={"by_name"})
def by_name(learning_rate):
    """Decays all but biases, by the last key of a path."""

    def decayed(params):
        name = lambda path, _: jax.tree_util.keystr(path[-1:], simple=True) != "bias"
        return jax.tree_util.tree_map_with_path(name, params)

    mask = optax.masked(optax.add_decayed_weights(1e-3), decayed)
    return optax.chain(mask, optax.trace(0.8), optax.scale_by_learning_rate(learning_rate))


@healthy()
def a_schedule_in_the_state(learning_rate=0.01):
    """Counts with its own float, and warms up."""

    def init(params):
        del params
        return {"count": jnp.zeros((), jnp.int32)}

    def update(updates, state, params=None):
        count = state["count"]
        rate = learning_rate(count) if callable(learning_rate) else learning_rate
        warm = jnp.minimum(1.0, (count + 1).astype(jnp.float32) / 4)
        return scaled(updates, -rate * warm), {"count": optax.safe_increment(count)}

    return optax.GradientTransformation(init, update)


@healthy()
def hyperparameters_injected(learning_rate=0.01):
    """Its rate can be set in the state from outside."""
    return optax.inject_hyperparams(optax.sgd)(learning_rate, momentum=0.9)


@healthy()
def a_key_in_the_state(learning_rate, seed=0):
    """Rounds at random, with raw bits of a key."""

    def init(params):
        del params
        return {"key": jax.random.key_data(jax.random.key(seed))}

    def update(updates, state, params=None):
        key, use = jax.random.split(jax.random.wrap_key_data(state["key"]))
        leaves, tree = jax.tree.flatten(updates)

        def one(u, key):
            factor = jax.random.uniform(key, u.shape, jnp.float32, 0.9, 1.1)
            return (-learning_rate * u * factor).astype(u.dtype)

        moved = [one(u, k) for u, k in zip(leaves, jax.random.split(use, len(leaves)), strict=True)]
        return jax.tree.unflatten(tree, moved), {"key": jax.random.key_data(key)}

    return optax.GradientTransformation(init, update)


@healthy()
def a_typed_key_in_the_state(learning_rate):
    """Noise that fades, from a key of the new kind."""
    return optax.chain(optax.add_noise(1e-3, 0.55, 0), optax.sgd(learning_rate))


@healthy()
def seldom_refreshed(learning_rate):
    """A preconditioner that is made anew every fourth step, under a cond."""

    def init(params):
        ones = lambda: optax.tree.ones_like(params, dtype=jnp.float32)
        return {"count": jnp.zeros((), jnp.int32), "mean": ones(), "kept": ones()}

    def update(updates, state, params=None):
        count = state["count"]
        square = lambda m, u: 0.9 * m + 0.1 * u.astype(jnp.float32) ** 2
        mean = jax.tree.map(square, state["mean"], updates)
        root = lambda: jax.tree.map(lambda m: 1 / (jnp.sqrt(m) + 1e-3), mean)
        kept = jax.lax.cond(count % 4 == 0, root, lambda: state["kept"])
        down = lambda u, k: (-learning_rate * k * u).astype(u.dtype)
        new = {"count": optax.safe_increment(count), "mean": mean, "kept": kept}
        return jax.tree.map(down, updates, kept), new

    return optax.GradientTransformation(init, update)


@healthy()
def whole_matrices(learning_rate):
    """Newton-Schulz on leaves of rank two; of a stack, on each matrix; else the sign."""

    def polar(x):
        y = x.astype(jnp.float32)
        y = y / jnp.maximum(jnp.linalg.norm(y, axis=(-2, -1), keepdims=True), 1e-20)
        for _ in range(5):
            y = 1.5 * y - 0.5 * y @ (y.mT @ y)
        return y.astype(x.dtype)

    def update(updates, params):
        del params
        turned = lambda u: polar(u) if u.ndim >= 2 else jnp.sign(u)
        return scaled(jax.tree.map(turned, updates), -learning_rate)

    return optax.stateless(update)


@healthy()
def factored(learning_rate):
    """A mean square of rows and of columns instead of entries; scalars and vectors whole."""

    def init(params):
        wide = lambda p: jnp.zeros_like(p, jnp.float32)
        rows = lambda p: jnp.zeros(p.shape[:-1], jnp.float32) if p.ndim > 1 else wide(p)
        columns = lambda p: jnp.zeros((*p.shape[:-2], p.shape[-1]) if p.ndim > 1 else ())
        return jax.tree.map(rows, params), jax.tree.map(columns, params)

    def update(updates, state, params=None):
        square = lambda u: u.astype(jnp.float32) ** 2 + 1e-20
        mean = lambda u, axis: jnp.mean(square(u), axis) if u.ndim > 1 else square(u)
        rows = jax.tree.map(lambda r, u: 0.9 * r + 0.1 * mean(u, -1), state[0], updates)
        columns = jax.tree.map(
            lambda c, u: 0.9 * c + 0.1 * mean(u, -2) if u.ndim > 1 else c, state[1], updates
        )

        def one(u, r, c):
            if u.ndim > 1:
                r = r[..., None] * c[..., None, :] / jnp.mean(r, -1)[..., None, None]
            return (-learning_rate * u / (jnp.sqrt(r) + 1e-8)).astype(u.dtype)

        return jax.tree.map(one, updates, rows, columns), (rows, columns)

    return optax.GradientTransformation(init, update)


@healthy()
def one_vector(learning_rate):
    """Ravels the tree, and keeps one vector for all of it."""

    def init(params):
        return (jnp.zeros((sum(p.size for p in jax.tree.leaves(params)),), jnp.float32),)

    def update(updates, state, params=None):
        leaves, tree = jax.tree.flatten(updates)
        flat = [u.ravel().astype(jnp.float32) for u in leaves]
        new = 0.9 * state[0] + (jnp.concatenate(flat) if flat else state[0])
        taken, start = [], 0
        for u in leaves:
            part = new[start : start + u.size].reshape(u.shape)
            taken.append((-learning_rate * part).astype(u.dtype))
            start += u.size
        return jax.tree.unflatten(tree, taken), (new,)

    return optax.GradientTransformation(init, update)


@healthy(traits={"no_accumulation"})
def looks_back(learning_rate):
    """Adds half the difference to the gradient before."""

    def init(params):
        return {"before": optax.tree.zeros_like(params)}

    def update(updates, state, params=None):
        ahead = lambda u, b: u + (0.5 * (u - b)).astype(u.dtype)
        new = jax.tree.map(ahead, updates, state["before"])
        return scaled(new, -learning_rate), {"before": updates}

    return optax.GradientTransformation(init, update)
