"""Whether the runs of a stage would be faster as lanes of one vmapped program.

python benchmarks/lanes.py [lanes, 8 by default] [entries, adamw and muon by default]

For each entry on the task `shakespeare` at its shipped size: a step of one run, and of as many runs
at once, in wall time and in processor time of all cores. Where one run keeps all cores busy, lanes
have nothing to win.
"""

import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

import gradsmith
from gradsmith.race import entry
from gradsmith.race.compiled import entry_functions
from gradsmith.race.tasks.shakespeare import shakespeare

STEPS = 10
ROUNDS = 3


def steps(start: Callable, advance: Callable, rate: jax.Array, seed: jax.Array) -> Callable:
    """A function that takes some steps, and returns the wall and processor seconds of one."""
    begin = jax.jit(start).lower(rate, seed).compile()
    until = jnp.int32(STEPS)
    run = begin(rate, seed)
    go_on = jax.jit(advance, donate_argnums=0).lower(run, rate, seed, until, ()).compile()

    def measured() -> tuple[float, float]:
        run = jax.block_until_ready(begin(rate, seed))
        wall, busy = time.perf_counter(), time.process_time()
        jax.block_until_ready(go_on(run, rate, seed, until, ()))
        return (time.perf_counter() - wall) / STEPS, (time.process_time() - busy) / STEPS

    return measured


def main(lanes: int, names: list[str]) -> None:
    task = shakespeare()
    for name in names:
        factory = getattr(gradsmith, name, None) or getattr(optax, name)
        start, advance, _ = entry_functions(task, entry(name, factory), {})
        rates, seeds = jnp.full(lanes, 1e-3, jnp.float32), jnp.arange(lanes, dtype=jnp.int32)
        together = jax.vmap(start), jax.vmap(advance, in_axes=(0, 0, 0, None, None))
        single, many = steps(start, advance, rates[0], seeds[0]), steps(*together, rates, seeds)
        single(), many()  # the first call of a program is slower
        found = [(single(), many()) for _ in range(ROUNDS)]
        for number, kind in enumerate(("wall", "processor")):
            one = statistics.median(alone[number] for alone, _ in found)
            each = statistics.median(all_[number] for _, all_ in found) / lanes
            print(
                f"{name}: a step takes {one * 1e3:.1f} ms of {kind} time alone, "
                f"{each * 1e3:.1f} ms as one of {lanes} lanes, {each / one:.2f} times as much"
            )


if __name__ == "__main__":
    main(int((sys.argv[1:] or [8])[0]), sys.argv[2:] or ["adamw", "muon"])
