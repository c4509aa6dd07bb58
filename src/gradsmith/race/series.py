"""What the plots of a race show, the same in the image and in the report."""

from typing import NamedTuple

from .protocol import Race, written
from .records import Record

# Told apart by most colour-blind people, on white and on black: the "bright" scheme of
# Paul Tol, https://personal.sron.nl/~pault/
COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377")


class Series(NamedTuple):
    """One line of a plot."""

    entry: str
    colour: str
    label: str
    x: list[float]
    y: list[float | None]  # None leaves a gap


def curves(race: Race, records: list[Record]) -> list[Series]:
    """Loss on the report data along the run, for every reported seed of each entry."""
    return [
        Series(
            entry,
            colour,
            f"{entry}, {written(record.settings)}, seed {record.seed}",
            [float(step) for step in record.curve.step],
            record.curve.validation_loss,
        )
        for entry, colour, own in _by_entry(race, records)
        for record in own
        if record.seed >= 0
    ]


def sweeps(race: Race, records: list[Record]) -> list[Series]:
    """Final loss on the selection data over the learning rates tried, for every entry."""
    series = []
    for entry, colour, own in _by_entry(race, records):
        grid = sorted((r for r in own if r.seed < 0), key=lambda record: record.rate)
        rates, losses = [r.rate for r in grid], [r.validation_loss for r in grid]
        series.append(Series(entry, colour, entry, rates, losses))
    return series


def window(shown: list[Series]) -> tuple[float, float]:
    """The losses that a plot of curves shows: the last four fifths of each fit in it.

    The fall at the beginning would else leave no room for what tells the entries apart.
    """
    late = [
        y
        for s in shown
        for x, y in zip(s.x, s.y, strict=True)
        if y is not None and x >= max(s.x) / 5
    ]
    if not late:
        return 0.0, 1.0
    margin = 0.05 * (max(late) - min(late)) or 0.05
    return min(late) - margin, max(late) + margin


def _by_entry(race: Race, records: list[Record]) -> list[tuple[str, str, list[Record]]]:
    return [
        (
            entry.name,
            COLOURS[number % len(COLOURS)],
            [record for record in records if record.entry == entry.name],
        )
        for number, entry in enumerate(race.entries)
    ]
