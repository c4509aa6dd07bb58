"""Follow a race that other processes run, by its folder alone."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .display import Display
from .folder import pinned
from .lock import Holder, holders
from .protocol import jobs, run_of
from .told import Told, told_so_far

SECONDS = 1.0  # between two looks


def follow(
    path: Path, display: Display, wait: Callable[[float], None] = time.sleep
) -> tuple[Told, int]:
    """Tell the display what happens in the folder, until the race is over or nobody races there.

    Nothing is written. Where the race runs on another machine, its folder and the locks in it are
    seen through the file system that both mount.

    Args:
        path: The folder of the race.
        display: Who is told.
        wait: Is called between two looks, with seconds.

    Returns:
        What the folder says in the end, and how many runs are left.

    Raises:
        RaceError: It is no folder of a race, or a file in it is damaged.
    """
    said = ""
    while pinned(path) is None and (racing := holders(path)):  # until its programs are compiled
        if said != (said := "; ".join(_doing(racing))):
            display.remark(said)
        wait(SECONDS)
    now = told_so_far(path)
    display.begin(now.race, now.records)
    shown = set(map(run_of, now.records))
    while True:
        racing = holders(path)  # before the records, so that none comes after the last look
        now = told_so_far(path)
        for record in now.records:
            if run_of(record) not in shown:
                shown.add(run_of(record))
                display.finish(record)
        display.elsewhere(_doing(racing))
        left = len(jobs(now.race, now.records))
        if not left or not racing:
            return now, left
        wait(SECONDS)


def _doing(racing: Sequence[Holder]) -> list[str]:
    return [holder.doing for holder in racing if holder.doing]
