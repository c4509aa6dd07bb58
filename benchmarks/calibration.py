"""How often a race calls a difference: between equals, and where there is one.

python benchmarks/calibration.py [repetitions, 200 by default]

Each repetition is a whole race on a tiny task, tuned anew for each seed, with selection and
verdict, of two entries: SGD whose gradients get noise of its own, and

- *the same* with other noise. A race is calibrated if it calls a difference in 5 % of them, give or
  take the standard error of so many repetitions;
- *the same and a handicap*: all that the handicap does is to add one standard deviation of the
  differences to the loss. With as many seeds as `seeds_to_show` suggests, at least 80 % of the
  races should find it.

Everything random depends on the seed alone, and each repetition shifts all its seeds, so that one
compilation serves all races of a kind.
"""

import dataclasses
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
from gradsmith.race.compiled import Compiled
from gradsmith.race.inference import seeds_to_show
from gradsmith.race.prepare import prepare
from gradsmith.race.rows import Pair, pairs

EQUALS_SEEDS = 5
STEPS = 5


def task() -> Task:
    """From a point near zero to a noisy centre."""

    def near(point: float, key) -> jax.Array:
        return point + 0.3 * jax.random.normal(key, (8,))

    return Task(
        name="tiny",
        init=lambda key: {"x": near(0.0, key), "handicap": jnp.zeros(())},
        loss=lambda params, batch: jnp.mean((params["x"] - batch) ** 2) + params["handicap"],
        batch=lambda key: near(1.0, key),
        selection=jnp.ones(8),
        report=jnp.ones(8),
        target=0.1,
        steps=STEPS,
        examples_per_step=1,
    )


def noisy(stream: int, handicap: float = 0.0) -> Callable:
    """SGD with noise of a stream of its own, and a handicap that grows to its size."""

    def build(learning_rate):
        def update(updates, state, params=None):
            key, used = jax.random.split(state)
            noise = 0.3 * jax.random.normal(used, params["x"].shape)
            move = {"x": -learning_rate * (updates["x"] + noise), "handicap": handicap / STEPS}
            return jax.tree.map(jnp.asarray, move), key

        def init(params):
            start = jax.random.bits(jax.random.key(stream))
            return jax.random.fold_in(jax.random.key(stream), start + _bits(params["x"]))

        return optax.GradientTransformation(init, update)

    return build


def _bits(x: jax.Array) -> jax.Array:
    """A number that differs between seeds, so that an entry's noise does as well."""
    return jax.lax.bitcast_convert_type(x[0], jnp.uint32)


@dataclasses.dataclass(frozen=True)
class Shifted:
    """A compiled program whose seeds are shifted; stands for a `Program` that is to be compiled."""

    compiled: Compiled
    by: int

    def compile(self) -> Compiled:
        """Return it, compiled as it is already."""
        return dataclasses.replace(
            self.compiled,
            start=lambda rate, seed: self.compiled.start(rate, seed + self.by),
            advance=lambda run, rate, seed, until, portion: self.compiled.advance(
                run, rate, seed + self.by, until, portion
            ),
        )


@dataclasses.dataclass(frozen=True)
class Once:
    """A compiled function that stands for one to be compiled."""

    compiled: Callable

    def compile(self) -> Callable:
        """Return it."""
        return self.compiled


def races(repetitions: range, handicap: float, seeds: int) -> list[Pair]:
    """What each repetition says of the two entries."""
    entries = (Entry("one", noisy(0)), Entry("other", noisy(1, handicap)))
    protocol = Protocol(tuned="each", seeds=seeds, extensions=1)
    prepared = prepare(Race(task(), entries, (0.2, 0.4, 0.8), protocol))
    compiled = {name: program.compile() for name, program in prepared.programs.items()}
    select, report = Once(prepared.select.compile()), Once(prepared.report.compile())
    found = []
    for repetition in repetitions:
        programs = {name: Shifted(one, 1000 * repetition) for name, one in compiled.items()}
        again = dataclasses.replace(prepared, programs=programs, select=select, report=report)
        with tempfile.TemporaryDirectory() as folder:
            found += pairs(again.race, run_race(again, Path(folder), Display()))
    return found


def main(repetitions: int) -> None:
    equals = races(range(1, 1 + repetitions), 0.0, EQUALS_SEEDS)
    called = sum(pair.shown for pair in equals) / repetitions
    error = math.sqrt(0.05 * 0.95 / repetitions)
    print(
        f"equals: a difference called in {called:.1%} of {repetitions}; 5.0% ± {error:.1%}",
        flush=True,
    )
    # The mean of variances: a deviation of five seeds is too low more often than too high.
    deviation = math.sqrt(statistics.fmean(pair.difference.deviation**2 for pair in equals))
    seeds = seeds_to_show(1.0, 1.0)
    found = races(range(1 + repetitions, 1 + 2 * repetitions), deviation, seeds)
    share = sum(pair.shown and pair.worse == "other" for pair in found) / repetitions
    error = math.sqrt(share * (1 - share) / repetitions)
    print(
        f"a handicap of one standard deviation: found in {share:.1%} ± {error:.1%} of "
        f"{repetitions} with {seeds} seeds"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
