"""Run a race, from the start or from where it was killed."""

import math
from pathlib import Path

import jax

from .checkpoints import Checkpoints
from .compiled import compile_entry
from .course import Course, curve_steps, train
from .display import Display
from .examine import examine_entry, examine_rate, examine_task
from .folder import Folder
from .protocol import Race, Run, next_run
from .records import Curve, Record, append_record, read_records
from .tasks import Task
from .timing import measure

CHECKPOINT_SECONDS = 20.0


def run_race(
    race: Race,
    path: Path,
    display: Display | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> list[Record]:
    """Run what is missing of a race, and return the records of all of it.

    Every finished run is a line of `records.jsonl` in the folder; the run under way leaves a
    checkpoint there every `checkpoint_seconds`. Killed at any moment, the same call goes on, and
    the records are those of an uninterrupted race, `timing` apart, wherever the device computes
    the same thing twice (CPUs do).

    All entries are compiled before the first run, each once.

    Args:
        race: What is raced.
        path: The folder of the race; made if it is not there.
        display: Who is told about the progress; nobody, if not given.
        checkpoint_seconds: Time between two checkpoints of a run.

    Raises:
        RaceError: The task, an entry or the folder cannot be used; nothing has been run then.

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
    display = display or Display()
    folder = Folder(path, race)
    records = read_records(folder.records)
    run = next_run(race, records)
    if run is None:
        return records
    examine_task(race.task)
    for entry in race.entries:
        examine_entry(race.task, entry)
    display.begin(race, records)
    compiled, timings = {}, {}
    finished = [entry.name for entry in race.entries].index(run.entry)
    for entry in race.entries[finished:]:
        display.compiling(entry)
        compiled[entry.name] = compile_entry(race.task, entry)
        examine_rate(compiled[entry.name], entry)
        timings[entry.name] = measure(compiled[entry.name])
    evaluate = jax.jit(race.task.loss)
    folder.pin()
    while run is not None:
        display.start(run)
        checkpoints = Checkpoints(folder.checkpoints, f"run-{len(records)}")
        course = train(
            race.task, compiled[run.entry], evaluate, run, checkpoints, checkpoint_seconds, display
        )
        record = _record(race.task, folder, run, course, timings[run.entry])
        append_record(folder.records, record)
        checkpoints.remove()
        records.append(record)
        display.finish(record)
        run = next_run(race, records)
    return records


def _record(
    task: Task, folder: Folder, run: Run, course: Course, timing: dict[str, float]
) -> Record:
    diverged_at = int(course.state.diverged_at) or None
    end = int(course.state.step)
    steps = [min(step, end) for step in curve_steps(task.steps)]
    length = steps.index(end) + 1
    training, validation = course.curve[:length].astype(float).T.tolist()
    reached = [s for s, loss in zip(steps, validation, strict=False) if loss <= task.target]
    return Record(
        entry=run.entry,
        rate=run.rate,
        seed=run.seed,
        validation_loss=None if diverged_at else validation[-1],
        steps_to_target=reached[0] if reached else None,
        diverged_at=diverged_at,
        curve=Curve(steps[:length], _finite(training), _finite(validation)),
        config=folder.config,
        versions=folder.versions,
        timing={"run": float(course.seconds), **timing},
    )


def _finite(losses: list[float]) -> list[float | None]:
    return [loss if math.isfinite(loss) else None for loss in losses]
