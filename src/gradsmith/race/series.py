"""What the figures of a race show, the same on the page and on paper."""

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from .protocol import Race, all_trials, best_trial
from .records import Record
from .space import RATE, Range, Settings

Axis = Literal["steps", "seconds", "passes"]
AXES: tuple[Axis, ...] = ("steps", "seconds", "passes")
DECADE = 10.0  # losses or settings further apart than this ask for a logarithmic axis


class Line(NamedTuple):
    """The curve of one entry, with a band over its seeds; None leaves a gap.

    Args:
        entry: Its number in the race.
        tuning: Whether it is of tuning, since nothing is reported yet.
        x: Where the points are, on each axis.
        middle: The mean over the seeds.
        low: The lowest.
        high: The highest.
    """

    entry: int
    tuning: bool
    x: dict[Axis, list[float]]
    middle: list[float | None]
    low: list[float | None]
    high: list[float | None]


class Tried(NamedTuple):
    """The trials of an entry, over one setting.

    Args:
        entry: Its number in the race.
        x: The value of the setting; of a setting without numbers, the number of the value.
        y: The mean loss on the selection data; None if a seed diverged.
        chosen: Which of them was chosen; None if none.
    """

    entry: int
    x: list[float]
    y: list[float | None]
    chosen: int | None


class Sensitivity(NamedTuple):
    """The trials of all entries that were tuned over a setting."""

    setting: str
    logarithmic: bool
    labels: list[str]  # of a setting without numbers
    tried: list[Tried]


class Cost(NamedTuple):
    """Seconds of a step of an entry: its passes through the model, and the update."""

    entry: int
    model: float
    update: float


@dataclasses.dataclass(frozen=True)
class Curves:
    """The curves of all entries, of one kind of loss."""

    kind: str
    lines: list[Line]
    target: float | None

    @property
    def logarithmic(self) -> bool:
        """Whether the losses ask for a logarithmic axis: positive, and more than a decade."""
        return over_a_decade(window(self.lines))


def curves(race: Race, records: list[Record], kind: Literal["validation", "training"]) -> Curves:
    """Losses along the best trial of each entry, over its seeds.

    Of an entry that has no reported run yet, those of its best trial in tuning.
    """
    lines = []
    for number, entry in enumerate(race.entries):
        own = [record for record in records if record.entry == entry.name]
        shown = [record for record in own if record.seed >= 0]
        if not shown:
            best = best_trial(race, own, entry.name)
            shown = [record for record in own if record.trial == best]
        if shown:
            lines.append(_line(number, shown, f"{kind}_loss"))
    return Curves(kind, lines, race.task.target if kind == "validation" else None)


def _line(number: int, own: list[Record], field: str) -> Line:
    longest = max((record.curve for record in own), key=lambda curve: len(curve.step))
    seconds = statistics.median(record.timing["step"] for record in own)
    losses = [getattr(record.curve, field) for record in own]
    at = [
        [loss[point] if point < len(loss) else None for loss in losses]
        for point in range(len(longest.step))
    ]
    x: dict[Axis, list[float]] = {
        "steps": [float(step) for step in longest.step],
        "seconds": [_short(step * seconds) for step in longest.step],
        "passes": [float(passes) for passes in longest.passes],
    }
    over = lambda reduce: [_over_seeds(reduce, values) for values in at]
    return Line(number, own[0].seed < 0, x, over(statistics.fmean), over(min), over(max))


def _over_seeds(
    reduce: Callable[[Iterable[float]], float], values: Sequence[float | None]
) -> float | None:
    """Of all seeds or of none: those that did not diverge would tell half the truth."""
    known = [value for value in values if value is not None]
    return _short(reduce(known)) if len(known) == len(values) else None


def _short(number: float) -> float:
    """In six digits, more than a figure shows."""
    return float(f"{number:.6g}")


def window(lines: list[Line], axis: Axis = "steps") -> tuple[float, float]:
    """The losses that a figure shows: the last four fifths of each line fit in it.

    The fall at the beginning would else leave no room for what tells the entries apart.
    """
    late = [
        y
        for line in lines
        for values in (line.low, line.high)
        for x, y in zip(line.x[axis], values, strict=True)
        if y is not None and x >= max(line.x[axis]) / 5
    ]
    return (min(late), max(late)) if late else (0.0, 1.0)


def sensitivities(race: Race, records: list[Record]) -> list[Sensitivity]:
    """All trials over each setting that was tuned, the learning rate first."""
    known = all_trials(race, records)
    scores = {entry.name: _scores(records, entry.name) for entry in race.entries}
    settings = dict.fromkeys(
        name
        for entry in race.entries
        for name in race.space(entry)
        if len({str(one[name]) for one in known[entry.name]}) > 1
    )
    return [_sensitivity(race, records, known, scores, name) for name in settings]


def _sensitivity(
    race: Race,
    records: list[Record],
    known: dict[str, list[Settings]],
    scores: dict[str, dict[int, float | None]],
    setting: str,
) -> Sensitivity:
    own = {
        number: entry.name
        for number, entry in enumerate(race.entries)
        if setting in race.space(entry)
    }
    tried = {
        number: [known[name][trial][setting] for trial in scores[name]]
        for number, name in own.items()
    }
    values = [value for some in tried.values() for value in some]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    labels = [] if numbers else sorted({str(value) for value in values})
    place = float if numbers else lambda value: float(labels.index(str(value)))
    return Sensitivity(
        setting,
        numbers and _is_logarithmic(race, own.values(), setting, values),
        labels,
        [
            Tried(
                number,
                [place(value) for value in tried[number]],
                list(scores[name].values()),
                _place_of_best(race, records, name, list(scores[name])),
            )
            for number, name in own.items()
        ],
    )


def _is_logarithmic(
    race: Race, names: Iterable[str], setting: str, values: Sequence[float]
) -> bool:
    if not values or min(values) <= 0:
        return False
    parts = [race.space(entry)[setting] for entry in race.entries if entry.name in set(names)]
    declared = any(isinstance(part, Range) and part.logarithmic for part in parts)
    return declared or setting == RATE or max(values) / min(values) >= DECADE


def _scores(records: list[Record], entry: str) -> dict[int, float | None]:
    """The mean loss of each trial over its tuning seeds; None where one diverged."""
    of_trial: dict[int, list[float | None]] = {}
    for record in records:
        if record.entry == entry and record.seed < 0:
            of_trial.setdefault(record.trial, []).append(record.validation_loss)
    return {trial: _over_seeds(statistics.fmean, losses) for trial, losses in of_trial.items()}


def _place_of_best(race: Race, records: list[Record], entry: str, trials: list[int]) -> int | None:
    best = best_trial(race, records, entry)
    return None if best is None else trials.index(best)


def costs(race: Race, records: list[Record]) -> list[Cost]:
    """Seconds of a step of each entry, the median over its runs, with its parts."""
    found = []
    for number, entry in enumerate(race.entries):
        own = [record.timing for record in records if record.entry == entry.name]
        if own:
            step = statistics.median(timing["step"] for timing in own)
            update = min(step, statistics.median(timing["update"] for timing in own))
            found.append(Cost(number, step - update, update))
    return found


def as_json(shown: Curves) -> dict[str, Any]:
    """The curves as the script of the page reads them."""
    return {
        "target": shown.target,
        "logarithmic": shown.logarithmic,
        "lines": [line._asdict() for line in shown.lines],
        "kind": shown.kind,
    }


def over_a_decade(values: Iterable[float]) -> bool:
    """Whether numbers ask for a logarithmic axis: positive, and more than a decade."""
    numbers = list(values)
    return bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) > DECADE


def finite(values: Iterable[float | None]) -> list[float]:
    """Those that are numbers."""
    return [value for value in values if value is not None and math.isfinite(value)]
