"""What the records say about each entry, and about each pair of them."""

import dataclasses
import itertools
import math
import statistics

from . import inference
from .protocol import Race, all_trials, best_trial, is_on_edge
from .records import Record
from .space import Settings


@dataclasses.dataclass(frozen=True)
class Row:
    """One entry's line of the table.

    Args:
        entry: Its name.
        runs: How many of its runs are finished; what follows is of these.
        settings: Of its best trial; None if every trial diverged, or none is finished.
        on_edge: Whether the best learning rate is the lowest or the highest that was tried, so
            that a better one may lie outside.
        losses: Final losses on the report data, one a reported seed; None for a diverged run.
        interval: Student's 95 % interval of their mean; NaN for one seed, or with a diverged one.
        steps_to_target: Where the curve crosses the target: the median over the seeds with its
            interval, infinite where runs end before; None without reported runs.
        passes_to_target: Forward and backward passes until then, likewise.
        confidence: Of the intervals of both medians.
        passes: Forward and backward passes through the model in a step, over the entry's records.
        step: Seconds of a step, the median over the entry's records; NaN without any.
        update_share: Time of the update over that of the step, likewise.
        tied: Whether no other entry is better by the data (see `Pair`).
    """

    entry: str
    runs: int
    settings: Settings | None
    on_edge: bool
    losses: tuple[float | None, ...]
    interval: tuple[float, float]
    steps_to_target: inference.Interval | None
    passes_to_target: inference.Interval | None
    confidence: float
    passes: tuple[float, float]
    step: float
    update_share: float
    tied: bool = False

    @property
    def all_diverged(self) -> bool:
        """Whether no trial that is finished has a loss."""
        return self.settings is None and self.runs > 0

    @property
    def loss(self) -> float:
        """The mean final loss; infinite if a seed diverged, or if nothing is reported."""
        finite = [loss for loss in self.losses if loss is not None]
        return statistics.fmean(finite) if finite and None not in self.losses else math.inf


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two entries compared seed by seed.

    Args:
        better: The one with the lower mean.
        worse: The other.
        difference: Of their losses, worse minus better.
        p: Adjusted by Holm over all pairs of the race.
        shown: Whether it is below the level.
    """

    better: str
    worse: str
    difference: inference.Paired
    p: float
    shown: bool


LEVEL = 0.05


def pairs(race: Race, records: list[Record]) -> list[Pair]:
    """Every pair of entries of which no reported run diverged; the race's own comparison."""
    losses = {}
    for entry in race.entries:
        own = _reported(records, entry.name)
        finite = {r.seed: r.validation_loss for r in own if r.validation_loss is not None}
        if finite and len(finite) == len(own):
            losses[entry.name] = finite
    found = []
    for one, other in itertools.combinations(losses, 2):
        seeds = sorted(losses[one].keys() & losses[other].keys())
        if not seeds:
            continue
        difference = [losses[other][seed] - losses[one][seed] for seed in seeds]
        if statistics.fmean(difference) < 0:
            one, other, difference = other, one, [-d for d in difference]
        found.append((one, other, inference.paired(difference, LEVEL)))
    adjusted = inference.holm([difference.p for *_, difference in found])
    return [
        Pair(one, other, difference, p, p < LEVEL)
        for (one, other, difference), p in zip(found, adjusted, strict=True)
    ]


def rows(race: Race, records: list[Record]) -> list[Row]:
    """One row an entry, the lowest mean final loss first."""
    known = all_trials(race, records)
    compared = pairs(race, records)
    table = [_row(race, records, entry.name, known[entry.name]) for entry in race.entries]
    beaten = {pair.worse for pair in compared if pair.shown}
    best = [row for row in table if math.isfinite(row.loss) and row.entry not in beaten]
    if len(best) > 1:
        names = {row.entry for row in best}
        table = [dataclasses.replace(row, tied=row.entry in names) for row in table]
    return sorted(table, key=lambda row: row.loss)


def _row(race: Race, records: list[Record], entry: str, known: list[Settings]) -> Row:
    own = [record for record in records if record.entry == entry]
    reported = _reported(records, entry)
    best = best_trial(race, own, entry)
    losses = tuple(record.validation_loss for record in reported)
    steps, passes, confidence = None, None, 1.0
    if reported:
        target = race.task.target
        curves = [record.curve for record in reported]
        found = [inference.crossing(c.step, c.validation_loss, target) for c in curves]
        steps, confidence = inference.median_time(found)
        found = [inference.crossing(c.passes, c.validation_loss, target) for c in curves]
        passes, _ = inference.median_time(found)
    finite = [loss for loss in losses if loss is not None]
    known_mean = len(finite) == len(losses) > 1
    total = sum(record.curve.step[-1] for record in own) or 1
    shares = [record.timing["update"] / record.timing["step"] for record in own]
    return Row(
        entry=entry,
        runs=len(own),
        settings=None if best is None else known[best],
        on_edge=is_on_edge(known, best),
        losses=losses,
        interval=inference.paired(finite, LEVEL).interval if known_mean else (math.nan, math.nan),
        steps_to_target=steps,
        passes_to_target=passes,
        confidence=confidence,
        passes=(
            sum(record.passes["forward"] for record in own) / total,
            sum(record.passes["backward"] for record in own) / total,
        ),
        step=statistics.median(r.timing["step"] for r in own) if own else math.nan,
        update_share=statistics.median(shares) if own else math.nan,
    )


def _reported(records: list[Record], entry: str) -> list[Record]:
    own = [record for record in records if record.entry == entry and record.seed >= 0]
    return sorted(own, key=lambda record: record.seed)
