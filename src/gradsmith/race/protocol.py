"""The protocol of a race: who runs next, given what has been run.

Every entry runs the same learning rates at seed 0, then the other seeds at its best rate. What
runs next depends on the finished records alone, so that a killed race needs no memory of its own.
"""

import dataclasses
import math
from collections.abc import Iterable
from typing import NamedTuple

from .entries import Entry
from .errors import RaceError
from .records import Record
from .tasks import Task

RATES = (0.002, 0.02, 0.2)  # docs/race.md says how they were chosen


class Run(NamedTuple):
    """One training run of one entry."""

    entry: str
    rate: float
    seed: int


@dataclasses.dataclass(frozen=True)
class Race:
    """What is raced: the task, the entries, the learning rates that each gets, the seeds.

    Args:
        task: The problem.
        entries: Who takes part; names are unique.
        rates: The grid of learning rates, the same for every entry.
        seeds: How many seeds each entry runs at its best rate.

    Raises:
        RaceError: No entry, no rate, no seed, a rate that is not a positive number, or something
            named twice.
    """

    task: Task
    entries: tuple[Entry, ...]
    rates: tuple[float, ...] = RATES
    seeds: int = 2

    def __post_init__(self):
        if not self.entries:
            raise RaceError("there is nobody to race: name at least one entry, such as adamw")
        if not self.rates:
            raise RaceError(
                "the grid of learning rates is empty: give at least one, such as --rates 0.02"
            )
        if not all(math.isfinite(rate) and rate > 0 for rate in self.rates):
            raise RaceError(f"learning rates must be positive numbers, got {self.rates}")
        if self.seeds < 1:
            raise RaceError(f"a race needs at least one seed, got {self.seeds}")
        for values in (self.rates, tuple(entry.name for entry in self.entries)):
            if len(set(values)) < len(values):
                raise RaceError(f"a race names everything once, got {', '.join(map(str, values))}")

    def runs_at_most(self) -> int:
        """How many runs it takes when no entry diverges at every rate."""
        return len(self.entries) * (len(self.rates) + self.seeds - 1)


def next_run(race: Race, records: Iterable[Record]) -> Run | None:
    """What to run now, given what is finished; None when the race is over.

    The entries alternate, so that a machine that is busy for a while disturbs all alike.
    """
    records = list(records)
    finished = {Run(record.entry, record.rate, record.seed) for record in records}
    best = {
        entry.name: best_rate(record for record in records if record.entry == entry.name)
        for entry in race.entries
    }
    grid = [Run(entry, rate, 0) for rate in race.rates for entry in best]
    if finished.issuperset(grid):  # who diverged everywhere has no best rate: seeds tell nothing
        runs = [Run(e, r, seed) for seed in range(race.seeds) for e, r in best.items() if r]
    else:
        runs = grid
    return next((run for run in runs if run not in finished), None)


def best_rate(records: Iterable[Record]) -> float | None:
    """The rate of the lowest final validation loss at seed 0; None if all of them diverged."""
    losses = {
        record.rate: record.validation_loss
        for record in records
        if record.seed == 0 and record.validation_loss is not None
    }
    return min(losses, key=lambda rate: (losses[rate], rate), default=None)
