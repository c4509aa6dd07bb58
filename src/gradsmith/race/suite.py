"""Several races under one protocol, a task each, and what they say together."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable
from rich.text import Text

from . import inference
from .display import Display
from .errors import RaceError
from .executors import Executor
from .prepare import Prepared, prepare
from .processes import joined
from .protocol import Race
from .records import Record, in_digits
from .rows import Row, rows
from .run import folder_of, run_race
from .watching import Watch

SUITES = {  # names of tasks, by the name of the suite
    "small": (
        "shakespeare",
        "fashion_conv",
        "fashion_patches",
        "autoencoder",
        "tabular",
        "experts",
        "linear_attention",
        "lora",
    ),
}
FACTORS = (1.0, 1.1, 1.25, 1.5, 2.0, 4.0)  # AlgoPerf's profiles go to 4 as well


def run_suite(
    races: Sequence[Race | Prepared],
    path: Path,
    display: Display | None = None,
    watch: Watch | None = None,
    executor: Executor | None = None,
) -> list[list[Record]]:
    """Run what is missing of several races, each in the folder of `path` that its task is named.

    Nothing is run until all of them are known to be possible. Each is an ordinary race in an
    ordinary folder (see `run_race`). After a kill, the same call continues it. One of several
    workers goes from race to race, and returns when its share of all of them is done.

    Args:
        races: One a task, with the same names of entries in each.
        path: The folder of all.
        display: Who is told about the progress; see `run_race`.
        watch: Looks inside the optimizers; see `run_race`.
        executor: Where the runs are computed; see `run_race`.

    Returns:
        The records of each race; of one of several workers, as far as the others are by then.

    Raises:
        RaceError: A race cannot be held, two have tasks of one name, or the entries differ.
    """
    prepared = [race if isinstance(race, Prepared) else prepare(race) for race in races]
    _refuse_unequal([one.race for one in prepared])
    folders = [path / one.race.task.name for one in prepared]
    records = [
        run_race(one, folder, display, executor=executor, watch=watch)
        for one, folder in zip(prepared, folders, strict=True)
    ]
    if joined():
        return records
    return [folder_of(*pair).read() for pair in zip(prepared, folders, strict=True)]


class Profile(NamedTuple):
    """A performance profile over tasks.

    Args:
        factors: How many times the passes of the fastest entry on a task.
        shares: Of the tasks, on how many an entry comes to the target within each factor.
        scores: The mean height of the profile of each entry, which is AlgoPerf's score.
        unsolved: Tasks on which no entry comes to the target; they count against all.
    """

    factors: tuple[float, ...]
    shares: dict[str, list[float]]
    scores: dict[str, float]
    unsolved: list[str]


def profile(
    races: Sequence[Race], records: Sequence[list[Record]], factors: Sequence[float] = FACTORS
) -> Profile:
    """Compare entries over all tasks, by the passes through the model that they take to the target.

    A pass forward and one backward is a step of a plain optimizer; a line search takes more. Of
    each task it is the median over the reported seeds. Who does not come to the target is slower
    than any factor. What an entry's share is depends on who else takes part.

    Args:
        races: One a task.
        records: Of each.
        factors: At least 1, ascending.
    """
    times: dict[str, list[float | None]] = {entry.name: [] for entry in races[0].entries}
    for race, own in zip(races, records, strict=True):
        for row in rows(race, own):
            found = row.passes_to_target
            reached = found is not None and math.isfinite(found.estimate)
            times[row.entry].append(found.estimate if found and reached else None)
    solved = [any(t is not None for t in task) for task in zip(*times.values(), strict=True)]
    shares = inference.performance_profile(times, factors)
    scores = {name: inference.algoperf_score(factors, own) for name, own in shares.items()}
    unsolved = [r.task.name for r, known in zip(races, solved, strict=True) if not known]
    return Profile(tuple(factors), shares, scores, unsolved)


def profile_table(found: Profile, tasks: int) -> RichTable:
    """The profile as text, the highest score first.

    Args:
        found: The profile.
        tasks: Over how many tasks.
    """
    title = f"Solved within a factor of the fastest, of {tasks} tasks"
    out = RichTable(title=title, box=SIMPLE_HEAD)
    for number, heading in enumerate(["entry", *(f"{f:g}x" for f in found.factors), "score"]):
        out.add_column(heading, justify="right" if number else "left")
    for name in sorted(found.scores, key=lambda name: -found.scores[name]):
        shares = [f"{round(share * tasks)}" for share in found.shares[name]]
        out.add_row(*map(Text, [name, *shares, f"{found.scores[name]:.2f}"]))
    return out


def losses_table(races: Sequence[Race], records: Sequence[list[Record]]) -> RichTable:
    """The mean final losses as text: a line for each task, a column for each entry.

    A task's best entry has the sign `<`. Where others are not shown to be worse, all of these have
    the sign `=`.

    Args:
        races: One a task.
        records: Of each.
    """
    names = [entry.name for entry in races[0].entries]
    title = "Mean final loss; < best, = not shown to be worse than the best"
    out = RichTable(title=title, box=SIMPLE_HEAD, padding=0, pad_edge=False)
    out.add_column("task", no_wrap=True)
    for name in names:
        out.add_column(name, justify="right", overflow="fold", min_width=9)
    for race, own in zip(races, records, strict=True):
        ordered = rows(race, own)
        cells = {row.entry: _loss(row, first=row is ordered[0]) for row in ordered}
        out.add_row(*map(Text, [race.task.name, *(cells[name] for name in names)]))
    return out


def _loss(row: Row, first: bool) -> str:
    if math.isinf(row.loss):
        return "diverged"
    return f"{in_digits(row.loss)}{'=' if row.tied else '<' if first else ' '}"


def profile_notes(found: Profile, tasks: int) -> list[str]:
    """What has to be said about a profile."""
    said = [
        "Counted are passes through the model to each task's target, the median over the seeds. "
        "Shares depend on who takes part: who is second may change when the first stays away."
    ]
    if found.unsolved:
        said.append(f"nobody comes to the target of {' and '.join(found.unsolved)}")
    if tasks < 20:
        said.append(f"{tasks} tasks are few: a task more or less moves a share by {1 / tasks:.0%}")
    return said


def _refuse_unequal(races: Sequence[Race]) -> None:
    if not races:
        raise RaceError("a suite needs at least one task")
    names = [race.task.name for race in races]
    for name in names:
        if names.count(name) > 1:
            raise RaceError(f"two tasks are called {name}: give each a name of its own")
    entries = [{entry.name for entry in race.entries} for race in races]
    for name, own in zip(names, entries, strict=True):
        if own != entries[0]:
            raise RaceError(
                f"a suite compares the same entries everywhere; {names[0]} has "
                f"{', '.join(sorted(entries[0]))} and {name} has {', '.join(sorted(own))}"
            )
