"""What a race will take, before it runs."""

import dataclasses
import time

import jax
import jax.numpy as jnp

from .compiled import Compiled, RunState
from .errors import enough_memory
from .feeding import Feed
from .prepare import Prepared, program_name
from .protocol import in_json
from .tasks import Task

STEPS = 3  # timed of each entry


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one entry will take.

    Args:
        entry: Its name.
        space: What it is tuned over.
        trials: How many it gets, extensions apart.
        runs: In tuning and for the report, extensions apart.
        compilations: How many programs it has.
        compile_seconds: Of all of them.
        step_seconds: Of a step.
        seconds: Of everything, about.
    """

    entry: str
    space: dict[str, object]
    trials: int
    runs: int
    compilations: int
    compile_seconds: float
    step_seconds: float
    seconds: float


def plan(prepared: Prepared) -> list[Plan]:
    """Compile the first program of each entry, time a few steps, and count; run nothing.

    Raises:
        RaceError: The device has not enough memory for an entry.
    """
    race = prepared.race
    found = []
    for entry in race.entries:
        trials = race.first_trials(entry)
        programs = {program_name(entry.name, settings) for settings in trials}
        start = time.perf_counter()
        with enough_memory(entry.name):
            compiled = prepared.programs[program_name(entry.name, trials[0])].compile()
            compiling = (time.perf_counter() - start) * len(programs)
            step = _step_seconds(race.task, compiled)
        runs = len(trials) * race.protocol.runs_of_a_trial + race.protocol.seeds
        found.append(
            Plan(
                entry=entry.name,
                space=in_json(race.space(entry)),
                trials=len(trials),
                runs=runs,
                compilations=len(programs),
                compile_seconds=compiling,
                step_seconds=step,
                seconds=compiling + runs * race.task.steps * step,
            )
        )
    return found


def in_words(plans: list[Plan], extended_runs: int) -> str:
    """The plan as lines, with the sum.

    Args:
        plans: One an entry.
        extended_runs: How many more runs all extensions would take.
    """
    lines = []
    for one in plans:
        space = ", ".join(f"{name}={part}" for name, part in one.space.items())
        lines.append(
            f"{one.entry}: {one.trials} trials of {space}; {one.runs} runs, "
            f"{one.compilations} compilation{'s' * (one.compilations > 1)}, "
            f"{one.step_seconds * 1e3:.3g} ms a step, about {one.seconds:.0f} s"
        )
    lines.append(
        f"together {sum(one.runs for one in plans)} runs, about "
        f"{sum(one.seconds for one in plans):.0f} s; {extended_runs} more runs if somebody's best "
        "learning rate is at an edge"
    )
    return "\n".join(lines)


def _step_seconds(task: Task, compiled: Compiled) -> float:
    rate, seed, portion = jnp.float32(1e-8), jnp.int32(0), Feed(task, 0, 0).until(1)

    def one(run: RunState) -> RunState:
        return compiled.advance(run, rate, seed, run.step + 1, portion)[0]

    run = jax.block_until_ready(one(compiled.start(rate, seed)))
    start = time.perf_counter()
    for _ in range(STEPS):
        run = one(run)
    jax.block_until_ready(run)
    return (time.perf_counter() - start) / STEPS
