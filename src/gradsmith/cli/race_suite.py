"""A race on every task of a suite, and the profile over all of them."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from ..race import Executor, Race, Record, run_suite
from ..race.folder import default_folder
from ..race.prepare import Prepared
from ..race.protocol import jobs
from ..race.suite import losses_table, profile, profile_notes, profile_table
from ..race.table import table
from ..race.verdict import verdict
from ..race.watching import Watch


def race_suite(
    prepared: Sequence[Prepared],
    folder: Path,
    results: Console,
    watch: Watch | None,
    executor: Executor,
    write: Callable[[Path], int],
) -> int:
    """Run them all, print what came out of each in brief, and the profile.

    Of several workers the last one prints.

    Args:
        prepared: One race a task.
        folder: Of all; each race has a folder in it.
        results: Where tables go.
        watch: Looks inside the optimizers, if anybody does.
        executor: Where the runs are computed.
        write: Writes the report of a folder, and returns an exit code.
    """
    races = [one.race for one in prepared]
    records = run_suite(prepared, folder, watch=watch, executor=executor)
    if others_have_runs_left(races, records):
        return 0
    for race, own in zip(races, records, strict=True):
        results.print(table(race, own))
        for sentence in verdict(race, own):
            results.print(sentence, highlight=False, markup=False)
    results.print(losses_table(races, records))
    found = profile(races, records)
    results.print(profile_table(found, len(races)))
    for note in profile_notes(found, len(races)):
        results.print(note, highlight=False, markup=False)
    return max(write(folder / race.task.name) for race in races)


def others_have_runs_left(races: Sequence[Race], records: Sequence[list[Record]]) -> bool:
    """Whether other workers are not through yet; says how many runs they have."""
    left = sum(len(jobs(*pair)) for pair in zip(races, records, strict=True))
    if left:
        print(
            f"{left} runs of other workers are left; the last one shows the table", file=sys.stderr
        )
    return left > 0


def suite_folder(name: str, prepared: Sequence[Prepared]) -> Path:
    """The folder of these races and no others: the suite and a hash, in `runs`."""
    folders = [str(default_folder(one.race, one.fingerprints)) for one in prepared]
    return Path("runs", f"{name}-{hashlib.sha256(' '.join(folders).encode()).hexdigest()[:6]}")
