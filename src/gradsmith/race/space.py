"""What an entry may be tuned over, and the trials that a search takes from it."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .errors import RaceError

RATE = "learning_rate"
Settings = dict[str, Any]  # one value for each name of a space


@dataclasses.dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, evenly on a plain or on a logarithmic scale.

    Args:
        low: The lowest.
        high: The highest.
        logarithmic: Whether equal ratios are equally likely, or equal differences.

    Raises:
        RaceError: The ends are not finite or not in order; or a logarithmic range reaches zero.
    """

    low: float
    high: float
    logarithmic: bool

    def __post_init__(self):
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise RaceError(f"a range goes from a number to a higher one, got {self}")
        if self.logarithmic and self.low <= 0:
            raise RaceError(f"a logarithmic range has positive ends, got {self}")

    def __str__(self) -> str:
        low, high = (repr(float(end)).removesuffix(".0") for end in (self.low, self.high))
        return f"{'log' if self.logarithmic else 'uniform'}({low}, {high})"

    def at(self, place: float) -> float:
        """The number at a place from 0 to 1, in three digits."""
        if self.logarithmic:
            return in_three_digits(self.low * (self.high / self.low) ** place)
        return in_three_digits(self.low + (self.high - self.low) * place)


def log(low: float, high: float) -> Range:
    """All numbers from `low` to `high`, equal ratios equally likely.

    Examples:
        >>> print(log(0.001, 0.1), log(0.001, 0.1).at(0.5))
        log(0.001, 0.1) 0.01
    """
    return Range(low, high, logarithmic=True)


def uniform(low: float, high: float) -> Range:
    """All numbers from `low` to `high`, equal differences equally likely.

    Examples:
        >>> print(uniform(0.0, 1.0), uniform(0.0, 1.0).at(0.5))
        uniform(0, 1) 0.5
    """
    return Range(low, high, logarithmic=False)


Space = Mapping[str, Range | Sequence[Any]]  # ranges, and lists of choices


def trials(space: Space, search: str, budget: int | None) -> list[Settings]:
    """The settings that a search tries, in order; the same in every call.

    Args:
        space: What to choose from.
        search: `grid` takes every combination of choices; `sobol` and `halton` take scrambled
            points of low discrepancy, so that few trials cover a space of several settings.
        budget: How many trials. A grid has as many as it has, and a budget must agree.

    Raises:
        RaceError: A grid over a range; a budget that is missing, or another than the grid's; or one
            that is more than the combinations of lists.

    Examples:
        >>> trials({"learning_rate": [0.1, 0.2], "momentum": [0.9]}, "grid", None)
        [{'learning_rate': 0.1, 'momentum': 0.9}, {'learning_rate': 0.2, 'momentum': 0.9}]
        >>> len(trials({"learning_rate": log(1e-3, 1.0)}, "sobol", 5))
        5
    """
    if search == "grid":
        return _grid(space, budget)
    if budget is None:
        raise RaceError(f"a {search} search needs a budget: how many trials each entry gets")
    lists = [part for part in space.values() if not isinstance(part, Range)]
    different = math.prod(map(len, lists))
    if len(lists) == len(space) and different < budget:
        raise RaceError(
            f"{' x '.join(space)} has {different} combinations, and the budget is {budget}: try "
            "them in a grid, or search a range such as learning_rate=log(2e-3, 2e-1)"
        )
    points = _points(search, len(space), budget)
    return [
        {name: _choose(part, x) for (name, part), x in zip(space.items(), point, strict=True)}
        for point in points.tolist()
    ]


def _grid(space: Space, budget: int | None) -> list[Settings]:
    for name, part in space.items():
        if isinstance(part, Range):
            raise RaceError(
                f"{name}={part} has no grid: list the values, or choose a sobol search with a "
                "budget"
            )
    parts = [part for part in space.values() if not isinstance(part, Range)]
    found = [dict(zip(space, values, strict=True)) for values in itertools.product(*parts)]
    if budget is not None and len(found) != budget:
        raise RaceError(
            f"the grid of {' x '.join(space)} has {len(found)} trials, and the budget is {budget}: "
            "everyone gets the same, so list as many values or choose a sobol search"
        )
    return found


def _points(search: str, dimensions: int, count: int) -> np.ndarray:
    from scipy.stats import qmc

    rng = np.random.default_rng(0)
    if search == "halton":
        return qmc.Halton(dimensions, scramble=True, rng=rng).random(count)
    power = max(0, math.ceil(math.log2(count)))  # Sobol's points are balanced in powers of two
    return qmc.Sobol(dimensions, scramble=True, rng=rng).random_base2(power)[:count]


def _choose(part: Range | Sequence[Any], place: float) -> Any:
    return part.at(place) if isinstance(part, Range) else part[int(place * len(part))]


def first(part: Range | Sequence[Any]) -> Any:
    """A value of a part of a space, for a first look at what it makes."""
    return _choose(part, 0.0)


def extension(rates: Sequence[float], best: float) -> list[float]:
    """Two more learning rates for an entry whose best one is known.

    Where the best is the lowest or the highest that was tried, they lie beyond it, each as far from
    the last as the two at that end are apart; else one lies halfway to each neighbour.

    Args:
        rates: Those tried, at least two different ones.
        best: The best of them.

    Examples:
        >>> extension([0.01, 0.1, 1.0], 1.0), extension([0.01, 0.1, 1.0], 0.1)
        ([10.0, 100.0], [0.0316, 0.316])
    """
    tried = sorted(set(rates))
    place = tried.index(best)
    if 0 < place < len(tried) - 1:
        found = [math.sqrt(best * tried[place - 1]), math.sqrt(best * tried[place + 1])]
    else:
        ratio = best / tried[1] if place == 0 else best / tried[-2]
        found = [best * ratio, best * ratio**2]
    return [in_three_digits(rate) for rate in found]


def in_three_digits(number: float) -> float:
    """A setting that a person can type.

    Examples:
        >>> in_three_digits(0.0123456)
        0.0123
    """
    return float(f"{number:.3g}")
