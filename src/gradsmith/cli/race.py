"""`gradsmith race`: train with several optimizers under one protocol, and compare."""

import dataclasses
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from ..race import RATES, TASKS, Race, RaceError, Record, Task, run_race, write_report
from ..race.folder import default_folder
from ..race.prepare import prepare
from ..race.table import notes, table
from .loading import UsageError, bind, load
from .race_entries import load_entries, refuse_twice, with_routing

INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended
WIDTH = 110  # of a table that does not go to a terminal
PACKAGES = ("flax", "orbax.checkpoint", "matplotlib", "plotly")

Repeated = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


def race(
    entries: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ENTRY ...")],
    /,
    task: str = "shakespeare",
    rates: tuple[float, ...] = RATES,
    seeds: int = 2,
    arg: Repeated = (),
    task_arg: Repeated = (),
    out: Path | None = None,
) -> int:
    """Race optimizers on one task: the same learning rates, seeds and schedule for everyone.

    Each entry runs every learning rate with seed 0, then the other seeds at its best rate. A race
    that was stopped or killed goes on when the same command is given again.

    Args:
        entries: Who runs: `muon`, `adamw` or another name in gradsmith, optax or optax.contrib, a
            dotted name, or `file.py:factory`. The parameter `learning_rate` or `lr` gets the
            rate; a factory in a file may call it otherwise if it comes first.
        task: What to train: `shakespeare`, or `file.py:make_task` of your own (docs/race.md).
        rates: The learning rates.
        seeds: How many seeds each entry runs at its best rate.
        arg: `name=value` for every entry that has such a parameter; may be repeated.
        task_arg: `name=value` for the task, such as `depth=6`; may be repeated.
        out: Folder for records, image and report; by default one in `runs` that is named after the
            task and a hash of all that is asked.
    """
    missing = [name for name in PACKAGES if not _is_installed(name)]
    if missing:
        raise UsageError(f"a race needs {', '.join(missing)}: pip install 'gradsmith[race]'")

    results = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    try:
        made = _task(task, task_arg)
        asked = Race(made, with_routing(load_entries(entries, arg), made), rates, seeds)
        prepared = prepare(asked)
        folder = out or default_folder(asked, prepared.fingerprints)
        records = run_race(prepared, folder)
    except RaceError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"{error}; what is finished is kept") from error
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    results.print(table(asked, records))
    for note in notes(asked, records):
        results.print(note, highlight=False, markup=False)
    return _write_report(asked, records, folder)


def _write_report(asked: Race, records: list[Record], folder: Path) -> int:
    try:
        files = write_report(asked, records, folder)
    except Exception as error:  # of a library that draws: the table stands
        print(
            f"gradsmith: the report was not written, {type(error).__name__}: {error}; the records "
            f"are in {folder}",
            file=sys.stderr,
        )
        return 1
    print("wrote", ", ".join(map(str, files)), file=sys.stderr)
    return 0


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _task(spec: str, assignments: Sequence[str]) -> Task:
    if spec not in TASKS and "." not in spec:
        raise UsageError(
            f"no task is called {spec!r}; there is {', '.join(TASKS)}, and your own: "
            "--task file.py:make_task"
        )
    make = load(f"gradsmith.race.tasks.{spec}.{spec}" if spec in TASKS else spec)
    if not callable(make):
        raise UsageError(f"{spec} is a {type(make).__name__}, not a function that makes a Task")
    refuse_twice("--task-arg", assignments)
    bound = bind(make, assignments, spec)
    try:
        task = bound()
    except Exception as error:
        raise UsageError(f"task {spec} fails: {type(error).__name__}: {error}") from error
    if not isinstance(task, Task):
        raise UsageError(
            f"{spec} returns a {type(task).__name__}, not a gradsmith.race.Task; "
            "docs/race.md shows a small one"
        )
    origin = {**task.origin, "spec": spec, "arguments": list(assignments)}
    return dataclasses.replace(task, origin=origin)
