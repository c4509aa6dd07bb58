"""Many steps over a tree of many shapes, in one compiled scan whose outputs answer many questions.

The leaves are on both sides of 128 and 256, because optimizers change their ways there: they factor
a second moment, cut a matrix in blocks, or refresh a basis every tenth step. The gradients change
from step to step. In the exercise they vanish for some steps, return, and come once ten thousand
times as large; in the descent they are those of a strictly convex bowl.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .bench import Bench
from .problem import PyTree, is_float, sample, target

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
    """What a step left behind: a number for each leaf, the first axis counts the steps."""

    gradient: PyTree  # the largest magnitude
    update: PyTree  # the largest magnitude; not finite when an entry is not
    product: PyTree  # of gradient and update: negative is downhill
    distance: PyTree  # of the parameters to the bottom of the bowl, before the step
    state: PyTree  # the largest magnitude; not finite when an entry is not


class Workout:
    """The workout of one subject. Costs one compilation, then a millisecond or so a step."""

    def __init__(self, bench: Bench):
        self._bench = bench
        own = bench.subject.params
        self.params = sample(TREE) if own is None else bench.params
        self._run = jax.jit(self._scan)

    @functools.cached_property
    def exercise(self) -> Sizes:
        """Changing gradients: they vanish, return, and come once far larger."""
        push = np.ones(STEPS, np.float32)
        push[VANISHED] = 0.0
        push[LARGE] = LARGEST
        return self._take(push=push, pull=np.zeros(STEPS, np.float32))[1]

    def descent(self) -> Sizes:
        """Twice as many steps down a bowl, from the same parameters."""
        push, pull = np.zeros(STEPS, np.float32), np.ones(STEPS, np.float32)
        carry, first = self._take(push=push, pull=pull)
        _, second = self._take(push=push, pull=pull, carry=carry)
        return jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)

    def _take(self, push: np.ndarray, pull: np.ndarray, carry: Any = None) -> tuple[Any, Sizes]:
        if carry is None:
            carry = (self.params, self._bench.tx.init(self.params))
        carry, sizes = self._run(carry, (jnp.arange(STEPS), push, pull))
        return carry, jax.device_get(sizes)

    def _scan(self, carry: Any, stages: Any) -> tuple[Any, Sizes]:
        def step(carry: Any, stage: Any) -> tuple[Any, Sizes]:
            params, state = carry
            number, push, pull = stage
            away = jax.tree.map(lambda p: p.astype(jnp.float32) - target(p, jnp), params)
            grads = jax.tree.map(
                lambda d, p: (pull * d + push * _noise(d.shape, number)).astype(p.dtype),
                away,
                params,
            )
            updates, state = self._bench.update(grads, state, params)
            sizes = Sizes(
                jax.tree.map(_largest, grads),
                jax.tree.map(_largest, updates),
                jax.tree.map(_product, grads, updates),
                jax.tree.map(lambda d: jnp.sqrt(_product(d, d)), away),
                jax.tree.map(_largest, state),
            )
            return (optax.apply_updates(params, updates), state), sizes

        return jax.lax.scan(step, carry, stages)


def workout_of(bench: Bench) -> Workout:
    """The workout of a subject, made once."""
    return bench.memory.setdefault("workout", Workout(bench))


def _noise(shape: tuple[int, ...], number: jax.Array) -> jax.Array:
    """Numbers in [-1, 1), others at each step and entry: a hash of both."""
    size = int(np.prod(shape))
    bits = jnp.arange(size, dtype=jnp.uint32) + jnp.uint32(size) * number.astype(jnp.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = (bits ^ (bits >> jnp.uint32(shift))) * jnp.uint32(factor)
    bits = bits ^ (bits >> jnp.uint32(16))
    return (bits.astype(jnp.float32) / jnp.float32(2**31) - jnp.float32(1)).reshape(shape)


def _largest(leaf: Any) -> jax.Array:
    """The largest magnitude of an array; NaN when an entry is not finite."""
    if not is_float(leaf) and not jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        return jnp.zeros(())
    sizes = jnp.abs(leaf).astype(jnp.float32)  # XLA's maximum on CPUs passes over NaN
    return jnp.where(jnp.all(jnp.isfinite(sizes)), jnp.max(sizes, initial=0.0), jnp.nan)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """The inner product, in float32, of what is divided by the largest first: no square is lost."""
    x, y = a.astype(jnp.float32), b.astype(jnp.float32)
    scales = [jnp.where(_largest(z) > 0, _largest(z), 1.0) for z in (x, y)]
    return jnp.sum(x / scales[0] * (y / scales[1])) * scales[0] * scales[1]
