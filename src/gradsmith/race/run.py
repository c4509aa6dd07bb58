"""Run a race, from the start or from where it was killed."""

import dataclasses
import math
from pathlib import Path

from rich.console import Console

from .checkpoints import Checkpoints
from .compiled import Compiled
from .course import Course, curve_steps, train
from .display import Bars, Display, Lines
from .examine import examine_rate
from .folder import Folder, configuration
from .lock import locked
from .prepare import Prepared, prepare
from .protocol import Race, Run, next_run
from .records import Curve, Record, append_record
from .tasks import Task
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
        >>> from gradsmith.race import Entry, Race, Task, run_race
        >>> parabola = Task(
        ...     name="parabola",
        ...     init=lambda key: {"x": jax.random.normal(key, (3,))},
        ...     loss=lambda params, batch: jnp.sum((params["x"] - batch) ** 2),
        ...     batch=lambda key: 1.0 + 0.1 * jax.random.normal(key, (3,)),
        ...     validation=jnp.ones(3),
        ...     target=0.01,
        ...     steps=40,
        ...     examples_per_step=1,
        ... )
        >>> race = Race(parabola, (Entry("sgd", optax.sgd),), rates=(0.01, 0.1), seeds=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     slow, fast = run_race(race, pathlib.Path(folder))
        >>> slow.steps_to_target is None, fast.steps_to_target <= 40
        (True, True)
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
        compiled = _compile(prepared, records, shown)
        updates = measure(compiled, race.task.steps)
        evaluate = prepared.evaluate.compile()
        folder.pin()
        while run is not None:
            shown.start(run)
            program = prepared.fingerprints[f"entry {run.entry}"]
            identity = {**run._asdict(), "program": program, "config": folder.config}
            checkpoints = Checkpoints(folder.checkpoints, f"run-{len(records)}", identity)
            course = train(
                race.task,
                compiled[run.entry],
                evaluate,
                run,
                checkpoints,
                checkpoint_seconds,
                shown,
            )
            record = _record(race.task, folder, run, program, course, updates[run.entry])
            append_record(folder.records, record)
            checkpoints.remove()
            records.append(record)
            shown.finish(record)
            run = next_run(race, records)
    return records


def _compile(prepared: Prepared, records: list[Record], display: Display) -> dict[str, Compiled]:
    """Compile the entries that have something left to run."""
    compiled = {}
    for entry in prepared.race.entries:
        if next_run(dataclasses.replace(prepared.race, entries=(entry,)), records):
            display.compiling(entry)
            compiled[entry.name] = prepared.programs[entry.name].compile()
            examine_rate(compiled[entry.name], entry)
    return compiled


def _record(
    task: Task, folder: Folder, run: Run, program: str | None, course: Course, update: float
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
        rate=run.rate,
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
