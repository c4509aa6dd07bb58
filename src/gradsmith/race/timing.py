"""How long a step takes, and how much of it is the optimizer."""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from .compiled import Compiled
from .examine import random_like

REPETITIONS = 5
SECONDS = 0.2  # of one repetition, about
MOST_STEPS = 32  # in one repetition


def measure(compiled: Compiled) -> dict[str, float]:
    """Seconds of a whole `step` and of the `update` alone, without compilation.

    Both are loops on the device: the step draws its batch, computes the gradient and updates; the
    update repeats with given gradients. They are timed in turn, so that a busy machine disturbs
    both alike; each figure is the median of five such timings. The learning rate is tiny, that
    nothing diverges.
    """
    rate, seed = jnp.float32(1e-8), jnp.int32(0)
    grads = random_like(compiled.abstract.params)

    def step(count: int) -> float:
        run = jax.block_until_ready(compiled.start(rate, seed))
        return _seconds(lambda: compiled.advance(run, rate, seed, jnp.int32(count)))

    def update(count: int) -> float:
        run = jax.block_until_ready(compiled.start(rate, seed))
        return _seconds(lambda: compiled.update(run, grads, rate, seed, jnp.int32(count)))

    step(1)  # the first call of a program is slower
    update(1)
    count = max(1, min(MOST_STEPS, round(SECONDS / step(1))))
    timings = [(step(count) / count, update(count) / count) for _ in range(REPETITIONS)]
    steps, updates = zip(*timings, strict=True)
    return {"step": statistics.median(steps), "update": statistics.median(updates)}


def _seconds(function: Callable) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start
