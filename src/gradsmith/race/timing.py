"""How long the update of each entry takes by itself."""

import statistics
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from .compiled import Compiled
from .examine import random_like
from .processes import agreed

ROUNDS = 3
SECONDS = 1.0  # of one timing, at most about


def measure(entries: Mapping[str, Compiled], steps: int) -> dict[str, float]:
    """Seconds of one update of each entry, without the model and without compilation.

    One timing is a loop on the device over the first `steps` updates, or over as many as fit in a
    second: an optimizer that does more from time to time is charged for all of it. Three rounds go
    over all entries, so that a busy machine disturbs all alike; each figure is the median of
    three. The learning rate is tiny, that nothing diverges.

    Args:
        entries: The compiled entries by name.
        steps: Steps of a run.
    """
    rate, seed = jnp.float32(1e-8), jnp.int32(0)

    def seconds(compiled: Compiled, count: int) -> float:
        run = compiled.start(rate, seed)
        noise = random_like(compiled.abstract.params)
        jax.block_until_ready((run, noise))
        return _seconds(lambda: compiled.update(run, noise, rate, seed, jnp.int32(count)))

    counts = dict.fromkeys(entries, 1)
    for name, compiled in entries.items():
        seconds(compiled, 1)  # the first call of a program is slower
        while counts[name] < steps and agreed(seconds(compiled, counts[name])) < SECONDS / 2:
            counts[name] = min(2 * counts[name], steps)
    timings = [
        {name: seconds(compiled, counts[name]) for name, compiled in entries.items()}
        for _ in range(ROUNDS)
    ]
    return {
        name: statistics.median(timing[name] for timing in timings) / counts[name]
        for name in entries
    }


def _seconds(function: Callable) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start
