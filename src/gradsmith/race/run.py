"""Run a race, from the start or from where it was killed."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .display import Display, default_display
from .errors import RaceError
from .executors import Executor
from .folder import Folder, configuration
from .lock import locked
from .prepare import Prepared, prepare
from .processes import agreed, all_alike, is_first, joined
from .protocol import Race, jobs
from .provenance import about
from .records import Record, append_record
from .runner import Runner
from .watching import Watch

CHECKPOINT_SECONDS = 20.0
POLL_SECONDS = 1.0  # between two looks at what other workers have finished


def run_race(
    race: Race | Prepared,
    path: Path,
    display: Display | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    executor: Executor | None = None,
    watch: Watch | None = None,
) -> list[Record]:
    """Run what is missing of a race, and return the records of all of it.

    Every finished run is a line of `records.jsonl` in the folder. The run under way leaves a
    checkpoint there every `checkpoint_seconds`. After a kill at any moment, the same call continues
    the race. The records are those of an uninterrupted race, except for `timing`, if the device
    computes the same thing twice (CPUs do). The programs that run, with their constants, and the
    data tell whether a race is the same. Records of another race are an error.

    All that a stage runs is compiled before its first run, each program once.

    One of several workers returns when the race is over, or when its share of the report is done;
    then the last one returns all records.

    Processes that `jax.distributed` has joined all make the same call. They compute each run
    together, on a mesh of all their devices. The first one alone reads and writes the folder and
    shows the progress; each returns all records.

    Args:
        race: What is raced.
        path: The folder of the race; made if it is not there.
        display: Who is told about the progress; bars or lines on stderr, if not given, and
            `Display()` for nobody.
        checkpoint_seconds: Time between two checkpoints of a run.
        executor: Where the runs are computed; by default here, one after the other.
        watch: Looks inside the optimizers of the reported runs, at the points of their curves, and
            leaves `readings-N.jsonl` of each run in the folder: `gradsmith.watch`, also with
            arguments by `functools.partial`. The records stay the same, and what it takes is in
            none of their times but `watch`. It needs the memory of a second state of the run.

    Raises:
        RaceError: The task, an entry or the folder cannot be used, another process races there, or
            processes that are joined make different calls; nothing has been run then.

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
    race, executor = prepared.race, executor or Executor()
    _refuse_unlike(prepared, executor, watch)
    if not is_first():
        return _follow(prepared, checkpoint_seconds, watch)
    with contextlib.ExitStack() as stack:
        try:
            opened = stack.enter_context(_opened(prepared, path, executor.worker))
        except RaceError as error:
            agreed(error)
            raise
        folder, tell, records = opened
        agreed((folder, records))
        shown = stack.enter_context(display or default_display())
        if not jobs(race, records):
            if remark := folder.remark():
                shown.remark(remark)
            return records
        shown.begin(race, records)
        runner = Runner(prepared, folder, shown, tell, checkpoint_seconds, watch)
        waiting = ""
        while left := jobs(race, records):
            if own := executor.share(left):
                for job, record in executor.records(own, runner):
                    append_record(folder.records(executor.worker), record)
                    folder.forget(job.number)
                    shown.finish(record)
            elif left[0].run.seed >= 0:
                return records  # the others report theirs
            else:
                if waiting != (waiting := f"waiting for {len(left)} runs of other workers"):
                    shown.remark(waiting)
                    tell(waiting)
                time.sleep(POLL_SECONDS)
            records = agreed(folder.read())
        folder.forget()
    return records


@contextlib.contextmanager
def _opened(
    prepared: Prepared, path: Path, worker: int | None
) -> Iterator[tuple[Folder, Callable[[str], None], list[Record]]]:
    """The folder of a race, held by this process, with what is finished; see `locked`."""
    folder = folder_of(prepared, path)
    with locked(path, worker) as tell:
        records = folder.read()
        if jobs(prepared.race, records):
            folder.refuse_to_go_on()
        yield folder, tell, records


def _refuse_unlike(prepared: Prepared, executor: Executor, watch: Watch | None) -> None:
    """Refuse joined processes that would not do the same."""
    if not joined():
        return
    if type(executor) is not Executor:
        raise RaceError(
            "processes that jax.distributed has joined compute each run together, and workers or "
            "tasks of Ray share the runs: take one or the other"
        )
    asked = [configuration(prepared.race), dict(prepared.fingerprints), watch is not None]
    if not all_alike(json.dumps(asked, sort_keys=True)):
        raise RaceError(
            "the processes that jax.distributed has joined race different things: give each of "
            "them the same command, with the same files, packages and data"
        )


def _follow(prepared: Prepared, checkpoint_seconds: float, watch: Watch | None) -> list[Record]:
    """Compute what the first process computes, and leave its records to it."""
    opened: Any = agreed(None)
    if isinstance(opened, RaceError):
        raise opened
    folder, records = opened
    runner = Runner(prepared, folder, Display(), lambda doing: None, checkpoint_seconds, watch)
    while left := jobs(prepared.race, records):
        for _ in Executor().records(left, runner):
            pass
        records = agreed(records)
    return records


def folder_of(prepared: Prepared, path: Path) -> Folder:
    """The folder of a race; see `Folder`."""
    race = prepared.race
    return Folder(path, configuration(race), prepared.fingerprints, about(race.entries))
