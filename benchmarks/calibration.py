"""How often a race calls a difference: between equals, and where there is one.

python benchmarks/calibration.py [repetitions, 200 by default]

Each repetition is a whole race on a tiny task, tuned anew for each seed, with selection and
verdict, of two entries: SGD whose gradients get noise of its own, and

- *the same* with other noise. A race is calibrated if it calls a difference in 5 % of them, give or
  take the standard error of so many repetitions;
- *the same and a handicap*: all that the handicap does is to add one standard deviation of the
  differences to the loss. With as many seeds as `seeds_to_show` suggests, at least 80 % of the
  races should find it.
"""

import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

from gradsmith.race import Display, Entry, Protocol, Race, Task, run_race
from gradsmith.race.inference import seeds_to_show
from gradsmith.race.rows import Pair, pairs

EQUALS_SEEDS = 5


def task(repetition: int) -> Task:
    """From a point near zero to a noisy centre; everything random depends on the repetition."""
    own = jax.random.key(repetition)

    def near(point: float, key) -> jax.Array:
        mixed = jax.random.fold_in(own, jax.random.bits(key))
        return point + 0.3 * jax.random.normal(mixed, (8,))

    return Task(
        name="tiny",
        init=lambda key: {"x": near(0.0, key), "handicap": jnp.zeros(())},
        loss=lambda params, batch: jnp.mean((params["x"] - batch) ** 2) + params["handicap"],
        batch=lambda key: near(1.0, key),
        selection=jnp.ones(8),
        report=jnp.ones(8),
        target=0.1,
        steps=20,
        examples_per_step=1,
    )


def noisy(stream: int, handicap: float = 0.0) -> Callable:
    """SGD with noise of a stream of its own, and a handicap that grows to its size."""

    def build(learning_rate):
        def update(updates, state, params=None):
            key, used = jax.random.split(state)
            noise = 0.3 * jax.random.normal(used, params["x"].shape)
            move = {"x": -learning_rate * (updates["x"] + noise), "handicap": handicap / 20}
            return jax.tree.map(jnp.asarray, move), key

        def init(params):
            start = jax.random.bits(jax.random.key(stream))
            return jax.random.fold_in(jax.random.key(stream), start + _bits(params["x"]))

        return optax.GradientTransformation(init, update)

    return build


def _bits(x: jax.Array) -> jax.Array:
    """A number that differs between seeds, so that an entry's noise does as well."""
    return jax.lax.bitcast_convert_type(x[0], jnp.uint32)


def race(repetition: int, handicap: float, seeds: int) -> Pair:
    entries = (
        Entry("one", noisy(2 * repetition)),
        Entry("other", noisy(2 * repetition + 1, handicap)),
    )
    protocol = Protocol(tuned="each", seeds=seeds, extensions=1)
    asked = Race(task(repetition), entries, (0.05, 0.1, 0.2), protocol)
    with tempfile.TemporaryDirectory() as folder:
        (pair,) = pairs(asked, run_race(asked, Path(folder), Display()))
    return pair


def main(repetitions: int) -> None:
    equals = [race(i, 0.0, EQUALS_SEEDS) for i in range(repetitions)]
    called = sum(pair.shown for pair in equals) / repetitions
    error = math.sqrt(0.05 * 0.95 / repetitions)
    print(f"equals: a difference called in {called:.1%} of {repetitions}; 5.0% ± {error:.1%}")
    deviation = statistics.median(pair.difference.deviation for pair in equals)
    seeds = seeds_to_show(1.0, 1.0)
    found = [race(repetitions + i, deviation, seeds) for i in range(repetitions)]
    share = sum(pair.shown and pair.worse == "other" for pair in found) / repetitions
    print(f"a handicap of one standard deviation: found in {share:.1%} with {seeds} seeds")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
