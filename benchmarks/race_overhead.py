"""What a race costs beside the training that it does: throughput and memory.

python benchmarks/race_overhead.py [rounds, 5 by default]

Optax's AdamW on the task `shakespeare` at its shipped size, under the schedule of the race,

- *bare*: a jitted step in a Python loop, as one writes it by hand, without any validation;
- *race*: a run as the race does it, with its checkpoints, the time of its validation apart.

Each trains once in a process of its own, the race with all that belongs to it, and the peaks of
memory are compared. Then runs of both alternate; told are medians of tokens a second, and of their
ratio.
"""

import functools
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

from gradsmith.race import Display, Entry, Protocol, Race, Task, run_race
from gradsmith.race.checkpoints import Checkpoints
from gradsmith.race.course import train
from gradsmith.race.feeding import batch_of
from gradsmith.race.prepare import prepare
from gradsmith.race.run import CHECKPOINT_SECONDS
from gradsmith.race.schedule import schedule
from gradsmith.race.tasks.shakespeare import shakespeare

RATE = 0.02
ADAMW = Entry("adamw", optax.adamw)


def bare(task: Task) -> Callable[[int], float]:
    """The plain loop, compiled; from a seed to the seconds of a run."""
    tx = optax.adamw(lambda count: RATE * schedule(jnp.asarray(count), task.steps))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, key):
        loss, grads = jax.value_and_grad(task.loss)(params, batch_of(task, (), jnp.int32(0), key))
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    def run(seed: int) -> float:
        key = jax.random.key(seed)
        params = jax.jit(task.init)(key)
        state = jax.jit(tx.init)(params)
        jax.block_until_ready((params, state))
        start = time.perf_counter()
        for count in range(task.steps):
            params, state, _ = step(params, state, jax.random.fold_in(key, count))
        jax.block_until_ready((params, state))
        return time.perf_counter() - start

    return run


def raced(task: Task) -> Callable[[int], float]:
    """A run of a race, compiled; from a seed to its seconds without those of validation."""
    prepared = prepare(race_of(task))
    (program,) = prepared.programs.values()
    compiled, held_out = program.compile(), prepared.report.compile()

    def run(seed: int) -> float:
        validating = 0.0

        def evaluate(params) -> jax.Array:
            nonlocal validating
            jax.block_until_ready(params)
            start = time.perf_counter()
            loss = jax.block_until_ready(held_out(params, task.report))
            validating += time.perf_counter() - start
            return loss

        with tempfile.TemporaryDirectory() as folder:
            checkpoints = Checkpoints(Path(folder, "run"), {})
            start = time.perf_counter()
            train(task, compiled, evaluate, RATE, seed, checkpoints, CHECKPOINT_SECONDS, Display())
            whole = time.perf_counter() - start
            checkpoints.close()
        return whole - validating

    return run


def race_of(task: Task) -> Race:
    """One run to tune and one to report."""
    return Race(task, (ADAMW,), (RATE,), Protocol(seeds=1, extensions=0))


def peak_of(kind: str) -> float:
    """The peak memory of a process that trains so, in MB."""
    command = [sys.executable, __file__, kind]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(found.stdout)


def told_peak(kind: str) -> None:
    """Train, and print the peak memory of this process in MB."""
    task = shakespeare()
    if kind == "bare":
        bare(task)(0)
    else:
        with tempfile.TemporaryDirectory() as folder:
            run_race(race_of(task), Path(folder), Display())
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


def main(rounds: int) -> None:
    # First: Linux counts what this process has into the peak of those that it starts.
    peaks = {kind: peak_of(kind) for kind in ("bare", "race")}
    print(
        f"peak memory: bare {peaks['bare']:.0f} MB, race {peaks['race']:.0f} MB, "
        f"{peaks['race'] - peaks['bare']:.0f} MB more; at most 200 MB are asked",
        flush=True,
    )
    task = shakespeare()
    runs = {"bare": bare(task), "race": raced(task)}
    tokens = task.steps * task.examples_per_step
    for run in runs.values():
        run(0)  # the first call of a program is slower
    found = [{name: run(seed) for name, run in runs.items()} for seed in range(1, 1 + rounds)]
    rates = {name: statistics.median(tokens / one[name] for one in found) for name in runs}
    ratio = statistics.median(one["bare"] / one["race"] for one in found)
    print(
        f"tokens a second, medians of {rounds} runs: bare {rates['bare']:,.0f}, race "
        f"{rates['race']:,.0f}; race / bare of each round, median {ratio:.3f}; at least 0.95 is "
        "asked"
    )


if __name__ == "__main__":
    if sys.argv[1:] in (["bare"], ["race"]):
        told_peak(sys.argv[1])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
