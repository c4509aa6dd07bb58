"""Run a race, from the start or from where it was killed."""

import functools
import math
from collections.abc import Callable
from pathlib import Path

import jax
from jaxtyping import PyTree
from rich.console import Console

from .checkpoints import Checkpoints
from .compiled import Compiled
from .course import Course, train
from .display import Bars, Display, Lines
from .examine import examine_rate
from .folder import Folder, configuration
from .lock import locked
from .points import curve_steps
from .prepare import Prepared, prepare, program_name
from .protocol import Race, Run, all_trials, next_run
from .records import Curve, Record, append_record
from .space import RATE, Settings
from .tasks import Batch, Task
from .timing import measure

CHECKPOINT_SECONDS = 20.0


def run_race(
    race: Race | Prepared,
    path: Path,
    display: Display | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> list[Record]:
    """Run what is missing of a race, and return the records of all of it.

    Every finished run is a line of `records.jsonl` in the folder; the run under way leaves a
    checkpoint there every `checkpoint_seconds`. Killed at any moment, the same call goes on, and
    the records are those of an uninterrupted race, `timing` apart, wherever the device computes
    the same thing twice (CPUs do). "The same" is told by the programs that are run, with their
    constants, and by the data: records of anything else are refused, not reused.

    All entries are compiled before the first run, each once.

    Args:
        race: What is raced.
        path: The folder of the race; made if it is not there.
        display: Who is told about the progress; bars or lines on stderr, if not given, and
            `Display()` for nobody.
        checkpoint_seconds: Time between two checkpoints of a run.

    Raises:
        RaceError: The task, an entry or the folder cannot be used, or another process races
            there; nothing has been run then.

    Examples:
        >>> import tempfile, pathlib, optax, jax, jax.numpy as jnp
        >>> from gradsmith.race import Entry, Protocol, Race, Task, run_race
        >>> parabola = Task(
        ...     name="parabola",
        ...     init=lambda key: {"x": jax.random.normal(key, (3,))},
        ...     loss=lambda params, batch: jnp.sum((params["x"] - batch) ** 2),
        ...     batch=lambda key: 1.0 + 0.1 * jax.random.normal(key, (3,)),
        ...     selection=jnp.ones(3),
        ...     report=jnp.ones(3),
        ...     target=0.01,
        ...     steps=40,
        ...     examples_per_step=1,
        ... )
        >>> race = Race(parabola, (Entry("sgd", optax.sgd),), (0.01, 0.1), Protocol(seeds=1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     *tuning, reported = run_race(race, pathlib.Path(folder))
        >>> len(tuning), reported.steps_to_target <= 40
        (4, True)
    """
    prepared = race if isinstance(race, Prepared) else prepare(race)
    race = prepared.race
    folder = Folder(path, configuration(race), prepared.fingerprints)
    with locked(path / ".lock"), display or _default_display() as shown:
        records = folder.read()
        run = next_run(race, records)
        if run is None:
            if remark := folder.remark():
                shown.remark(remark)
            return records
        folder.refuse_to_go_on()
        shown.begin(race, records)
        compiled = _compile(prepared, shown)
        updates = measure(compiled, race.task.steps)
        select, report = prepared.select.compile(), prepared.report.compile()
        folder.pin()
        while run is not None:
            settings = all_trials(race, records)[run.entry][run.trial]
            shown.start(run, settings)
            name = program_name(run.entry, settings)
            program = prepared.fingerprints[name]
            identity = {**run._asdict(), "settings": settings, "program": program}
            identity["config"] = folder.config
            checkpoints = Checkpoints(folder.checkpoints, f"run-{len(records)}", identity)
            evaluate = (
                functools.partial(_held_out_loss, select, race.task.selection)
                if run.seed < 0
                else functools.partial(_held_out_loss, report, race.task.report)
            )
            course = train(
                race.task,
                compiled[name],
                evaluate,
                settings[RATE],
                run.seed,
                checkpoints,
                checkpoint_seconds,
                shown,
            )
            record = _record(race.task, folder, run, settings, program, course, updates[name])
            append_record(folder.records, record)
            checkpoints.remove()
            records.append(record)
            shown.finish(record)
            run = next_run(race, records)
    return records


def _held_out_loss(loss: Callable, data: Batch, params: PyTree) -> jax.Array:
    return loss(params, data)


def _compile(prepared: Prepared, display: Display) -> dict[str, Compiled]:
    compiled = {}
    for name, program in prepared.programs.items():
        entry = name.removeprefix("entry ")
        display.compiling(entry)
        compiled[name] = program.compile()
        examine_rate(compiled[name], entry)
    return compiled


def _record(
    task: Task,
    folder: Folder,
    run: Run,
    settings: Settings,
    program: str | None,
    course: Course,
    update: float,
) -> Record:
    diverged_at = int(course.state.diverged_at) or None
    end = int(course.state.step)
    steps = [min(step, end) for step in curve_steps(task.steps)]
    length = steps.index(end) + 1
    training, validation = course.curve[:length].astype(float).T.tolist()
    reached = [s for s, loss in zip(steps, validation, strict=False) if loss <= task.target]
    forward, backward = course.state.passes.tolist()
    return Record(
        entry=run.entry,
        trial=run.trial,
        settings=settings,
        seed=run.seed,
        validation_loss=None if diverged_at else validation[-1],
        steps_to_target=reached[0] if reached else None,
        diverged_at=diverged_at,
        passes={"forward": forward, "backward": backward},
        curve=Curve(
            steps[:length], course.passes[:length].tolist(), _finite(training), _finite(validation)
        ),
        program=program,
        config=folder.config,
        versions=folder.versions,
        timing={
            "run": float(course.seconds),
            "step": float(course.stepping) / end,
            "update": update,
        },
    )


def _finite(losses: list[float]) -> list[float | None]:
    return [loss if math.isfinite(loss) else None for loss in losses]


def _default_display() -> Display:
    console = Console(stderr=True)
    return (Bars if console.is_terminal else Lines)(console)
