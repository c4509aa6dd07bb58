"""What the records say about each entry."""

import dataclasses
import math
import statistics

from .protocol import Race, best_rate
from .records import Record


@dataclasses.dataclass(frozen=True)
class Row:
    """One entry's line of the table.

    Args:
        entry: Its name.
        rate: Its best learning rate at seed 0; None if it diverged at every rate.
        on_edge: Whether the best rate is the lowest or the highest of the grid, so that a better
            one may lie outside.
        losses: Final validation losses at the best rate, one a seed; None for a diverged run.
        steps_to_target: Median over those seeds; None if half of them or more do not reach it.
        passes: Forward and backward passes through the model in a step, over the entry's records.
        step: Seconds of a step, the median over the entry's records.
        update_share: Time of the update over that of the step, likewise.
    """

    entry: str
    rate: float | None
    on_edge: bool
    losses: tuple[float | None, ...]
    steps_to_target: float | None
    passes: tuple[float, float]
    step: float
    update_share: float

    @property
    def loss(self) -> float:
        """The mean final validation loss; infinite if a seed diverged."""
        finite = [loss for loss in self.losses if loss is not None]
        return statistics.fmean(finite) if finite and None not in self.losses else math.inf


def rows(race: Race, records: list[Record]) -> list[Row]:
    """One row an entry, the lowest mean final validation loss first."""
    table = []
    for entry in race.entries:
        own = [record for record in records if record.entry == entry.name]
        rate = best_rate(own)
        best = sorted((r for r in own if r.rate == rate), key=lambda record: record.seed)
        table.append(
            Row(
                entry=entry.name,
                rate=rate,
                on_edge=rate in (min(race.rates), max(race.rates)),
                losses=tuple(record.validation_loss for record in best),
                steps_to_target=_median_step([record.steps_to_target for record in best]),
                passes=_passes(own),
                step=statistics.median(record.timing["step"] for record in own),
                update_share=statistics.median(
                    record.timing["update"] / record.timing["step"] for record in own
                ),
            )
        )
    return sorted(table, key=lambda row: row.loss)


def _passes(records: list[Record]) -> tuple[float, float]:
    steps = sum(record.curve.step[-1] for record in records)
    forward = sum(record.passes["forward"] for record in records)
    backward = sum(record.passes["backward"] for record in records)
    return forward / steps, backward / steps


def _median_step(steps: list[int | None]) -> float | None:
    known = [math.inf if step is None else step for step in steps or [None]]
    median = float(statistics.median(known))
    return median if math.isfinite(median) else None
