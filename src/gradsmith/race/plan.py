"""What a race will take, before it runs."""

import dataclasses
import statistics
import time

import jax
import jax.numpy as jnp

from .compiled import Compiled, RunState
from .display import Display
from .errors import enough_memory
from .feeding import Feed
from .prepare import Prepared, program_name
from .protocol import in_json
from .tasks import Task

STEPS = 4  # timed of each entry, at most; the first may be slower
ALIKE = 0.1  # two steps whose times differ by no more are enough


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
        seconds: Of the runs and their programs, about; validation and what looks inside are apart.
    """

    entry: str
    space: dict[str, object]
    trials: int
    runs: int
    compilations: int
    compile_seconds: float
    step_seconds: float
    seconds: float


def plan(prepared: Prepared, display: Display | None = None) -> list[Plan]:
    """Compile the first program of each entry, time a few steps, and count; run nothing.

    Args:
        prepared: The race.
        display: Is told which entry is being compiled and timed; by default nobody is.

    Raises:
        RaceError: The device has not enough memory for an entry.
    """
    race, display = prepared.race, display or Display()
    found = []
    for entry in race.entries:
        trials = race.first_trials(entry)
        programs = {program_name(entry.name, settings) for settings in trials}
        display.compiling(entry.name)
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
        f"{sum(one.seconds for one in plans):.0f} s with the compilations; {extended_runs} more "
        "runs if somebody's best learning rate is at an edge. Not counted: validation, and what "
        "looks inside and times the updates"
    )
    return "\n".join(lines)


def _step_seconds(task: Task, compiled: Compiled) -> float:
    rate, seed, portion = jnp.float32(1e-8), jnp.int32(0), Feed(task, 0, 0).until(1)

    def one(run: RunState) -> RunState:
        return compiled.advance(run, rate, seed, run.step + 1, portion)[0]

    run, timed = jax.block_until_ready(compiled.start(rate, seed)), []
    while len(timed) < STEPS and not _are_alike(timed[-2:]):
        start = time.perf_counter()
        run = jax.block_until_ready(one(run))
        timed.append(time.perf_counter() - start)
    return statistics.fmean(timed[-2:])


def _are_alike(times: list[float]) -> bool:
    return len(times) > 1 and max(times) - min(times) <= ALIKE * max(times)
