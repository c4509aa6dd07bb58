"""How far a race is, and how long its stage still takes."""

import statistics

from .protocol import Race
from .records import Record


class Tally:
    """Counts what is finished.

    Args:
        race: The race.
        records: What was finished before.
    """

    def __init__(self, race: Race, records: list[Record]):
        self._race, self._records = race, list(records)

    def add(self, record: Record) -> None:
        """Count a finished run."""
        self._records.append(record)

    @property
    def total(self) -> int:
        """Runs of the whole race, at most."""
        return self._race.runs_at_most()

    @property
    def finished(self) -> int:
        """Runs that are over."""
        return len(self._records)

    @property
    def stage(self) -> str:
        """What is under way; the report has begun when one of its runs is over."""
        reporting = any(record.seed >= 0 for record in self._records)
        return "report" if reporting or not self._left_of_tuning() else "tuning"

    def diverged(self, entry: str) -> int:
        """How many runs of the entry have."""
        return sum(r.entry == entry and r.diverged_at is not None for r in self._records)

    def seconds_left(self) -> float | None:
        """Of the stage, at most, from the mean time of each entry's runs; None before the first."""
        taken: dict[str, list[float]] = {}
        for record in self._records:
            taken.setdefault(record.entry, []).append(record.timing["run"])
        if not taken:
            return None
        mean = {entry: statistics.fmean(times) for entry, times in taken.items()}
        usual = statistics.fmean(mean.values())
        return sum(left * mean.get(entry, usual) for entry, left in self._left(self.stage).items())

    def _left_of_tuning(self) -> int:
        return sum(self._left("tuning").values())

    def _left(self, stage: str) -> dict[str, int]:
        seeds, entries = self._race.protocol.seeds, self._race.entries
        of_each = seeds if stage == "report" else self.total // len(entries) - seeds
        done = {entry.name: 0 for entry in entries}
        for record in self._records:
            if (record.seed >= 0) is (stage == "report"):
                done[record.entry] += 1
        return {entry: max(0, of_each - count) for entry, count in done.items()}


def about(seconds: float) -> str:
    """A time that is not known better.

    Examples:
        >>> print(about(3.2), about(100.0), about(7000.0))
        3 s 1 min 40 s 1 h 56 min
    """
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
