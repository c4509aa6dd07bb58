"""Many steps over a tree of many shapes, in one compiled scan whose outputs answer many questions.

The leaves are on both sides of 128 and 256, because optimizers change their ways there: they factor
a second moment, cut a matrix in blocks, or refresh a basis every tenth step. The gradients change
from step to step. In the exercise they vanish for some steps, return, and come once ten thousand
times as large; in the descent they are those of a strictly convex bowl.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .bench import Bench
from .compare import host
from .problem import PyTree, sample, target
from .verdicts import NotApplicable

STEPS = 32
TREE = {
    "wide": (130, 264),
    "tall": (264, 130),
    "square": (12, 12),
    "stack": (2, 6, 4),
    "row": (1, 9),
    "column": (9, 1),
    "long": (300,),
    "short": (3,),
    "scalar": (),
}
VANISHED = slice(10, 13)
LARGE = slice(21, 23)
LARGEST = 1e4


class Sizes(NamedTuple):
    """What the steps left behind: a number for each leaf, the first axis counts the steps."""

    gradient: PyTree  # the largest magnitude
    update: PyTree  # the largest magnitude; NaN or infinite when an entry is
    cosine: PyTree  # of gradient and update: negative is downhill; 0 where one of them is
    distance: PyTree  # of the parameters to the bottom of the bowl, before the step
    state: PyTree  # the largest magnitude; NaN or infinite when an entry is


class Workout:
    """The workout of one subject. Costs one compilation of a step, then milliseconds a step.

    What a step makes is kept whole and measured by NumPy, so that nothing is compiled for it.
    """

    def __init__(self, bench: Bench, params: PyTree):
        self._bench = bench
        self.params = params
        self._bottom = jax.tree.map(lambda p: target(p, np).astype(np.float32), self.params)
        self._run = jax.jit(self._scan)

    @functools.cached_property
    def exercise(self) -> Sizes:
        """Changing gradients: they vanish, return, and come once far larger."""
        size = np.ones(STEPS, np.float32)
        size[VANISHED] = 0.0
        size[LARGE] = LARGEST
        rng = np.random.default_rng(0)

        def push(p: Any) -> np.ndarray:
            noise = rng.uniform(-1, 1, (STEPS, *p.shape)).astype(np.float32)
            return noise * size.reshape(-1, *[1] * p.ndim)

        return self._take(0.0, jax.tree.map(push, self.params))[1]

    @functools.cached_property
    def descent(self) -> Sizes:
        """Twice as many steps down a bowl, from the same parameters."""
        push = jax.tree.map(lambda p: np.zeros((STEPS, *p.shape), np.float32), self.params)
        carry, first = self._take(1.0, push)
        _, second = self._take(1.0, push, carry)
        return jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)

    def _take(self, pull: float, push: PyTree, carry: Any = None) -> tuple[Any, Sizes]:
        if carry is None:
            carry = (self.params, self._bench.tx.init(self.params))
        carry, (grads, updates, params, state) = self._run(carry, push, self._bottom, pull)
        away = jax.tree.map(lambda p, b: host(p) - b, params, self._bottom)
        return carry, Sizes(
            jax.tree.map(_largest, grads),
            jax.tree.map(_largest, updates),
            jax.tree.map(_cosine, grads, updates),
            jax.tree.map(lambda d: np.sqrt(_product(d, d)), away),
            jax.tree.map(_largest, state),
        )

    def _scan(self, carry: Any, push: PyTree, bottom: PyTree, pull: Any) -> Any:
        def gradient(p: jax.Array, b: jax.Array, push: jax.Array) -> jax.Array:
            return (pull * (p.astype(jnp.float32) - b) + push).astype(p.dtype)

        def step(carry: Any, push: PyTree) -> Any:
            params, state = carry
            grads = jax.tree.map(gradient, params, bottom, push)
            updates, state = self._bench.update(grads, state, params)
            after = optax.apply_updates(params, updates)
            return (after, state), (grads, updates, params, state)

        return jax.lax.scan(step, carry, push)


def workouts_of(bench: Bench) -> list[Workout]:
    """The workouts of a subject, made once: on the tree of many shapes, and on its own tree."""
    if "workouts" not in bench.memory:
        bench.memory["workouts"] = [Workout(bench, tree) for tree in _trees_for(bench)]
    return bench.memory["workouts"]


def _trees_for(bench: Bench) -> Iterator[PyTree]:
    subject = bench.subject
    if subject.params is not None or subject.small_model is not None:
        yield bench.params
    try:
        bench.require_own_trees()
    except NotApplicable:
        return
    yield _tree_of_many_shapes(bench)


def _tree_of_many_shapes(bench: Bench) -> PyTree:
    """The tree, without its stack where that is refused."""
    try:
        jax.eval_shape(bench.tx.init, sample(TREE))
    except ValueError as error:
        if "stack" not in str(error):
            raise
        return sample({name: shape for name, shape in TREE.items() if name != "stack"})
    return sample(TREE)


def _rows(leaf: Any) -> np.ndarray:
    """One row a step."""
    values = host(leaf)
    return values.reshape(len(values), -1)


def _largest(leaf: Any) -> np.ndarray:
    return np.max(np.abs(_rows(leaf)), axis=1, initial=0.0)


def _product(a: Any, b: Any) -> np.ndarray:
    return np.real(np.sum(np.conj(_rows(a)) * _rows(b), axis=1))


def _cosine(a: Any, b: Any) -> np.ndarray:
    lengths = np.sqrt(_product(a, a) * _product(b, b))
    return _product(a, b) / np.where(lengths > 0, lengths, 1.0)
