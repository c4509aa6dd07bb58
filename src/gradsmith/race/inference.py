"""Statistics of races: what seeds can and cannot tell, on plain lists of numbers.

Nothing here knows of entries or records; `rows.py` and `verdict.py` ask it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

BOOTSTRAPS = 10_000
POWER = 0.9  # of the number of seeds that is suggested, for differences of a normal law


class Interval(NamedTuple):
    """An estimate and the interval around it."""

    estimate: float
    low: float
    high: float


class Paired(NamedTuple):
    """What the differences of pairs say.

    Args:
        mean: Their mean.
        deviation: Their standard deviation; NaN for one pair.
        interval: Student's interval of the mean; NaN for one pair.
        bootstrap: The bootstrap's percentile interval, beside it.
        p: Of Student's test against a mean of zero, two-sided; 1 for one pair.
        pairs: How many.
    """

    mean: float
    deviation: float
    interval: tuple[float, float]
    bootstrap: tuple[float, float]
    p: float
    pairs: int


def paired(differences: Sequence[float], level: float = 0.05) -> Paired:
    """What the differences of pairs say about their mean.

    Student's interval is right for normal differences, and near it for many; the bootstrap assumes
    no shape, and is too narrow for fewer than about ten pairs. Where both say the same, the shape
    does not matter.

    Args:
        differences: One a pair; all finite.
        level: One minus the confidence of the intervals.

    Examples:
        >>> found = paired([1.0, 2.0, 3.0])
        >>> print(found.mean, [round(end, 3) for end in found.interval], round(found.p, 4))
        2.0 [-0.484, 4.484] 0.0742
    """
    from scipy import stats

    d = np.asarray(differences, np.float64)
    n, mean = len(d), float(np.mean(d))
    if n < 2:
        nothing = (math.nan, math.nan)
        return Paired(mean, math.nan, nothing, nothing, 1.0, n)
    deviation = float(np.std(d, ddof=1))
    error = deviation / math.sqrt(n)
    half = float(stats.t.ppf(1 - level / 2, n - 1)) * error
    same = 1.0 if mean == 0 else 0.0  # the same difference every time
    p = float(2 * stats.t.sf(abs(mean) / error, n - 1)) if error > 0 else same
    drawn = np.random.default_rng(0).integers(0, n, (BOOTSTRAPS, n))
    ends = np.quantile(d[drawn].mean(axis=1), [level / 2, 1 - level / 2])
    return Paired(mean, deviation, (mean - half, mean + half), tuple(ends.tolist()), p, n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment: with it, all that is below a level holds at once at that level.

    Examples:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    References:
        Holm, A simple sequentially rejective multiple test procedure, 1979
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order.tolist()):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def seeds_to_show(difference: float, deviation: float, level: float = 0.05) -> int:
    """How many pairs show a mean difference at a level, nine times in ten.

    Args:
        difference: The mean to be shown, not zero.
        deviation: The standard deviation of the differences.
        level: Of the two-sided test.

    Examples:
        >>> seeds_to_show(1.0, 1.0)
        13
    """
    from scipy import stats

    for n in range(2, 10_000):
        noncentral = abs(difference) / deviation * math.sqrt(n) if deviation else math.inf
        limit = stats.t.ppf(1 - level / 2, n - 1)
        if math.isinf(noncentral) or stats.nct.sf(limit, n - 1, noncentral) >= POWER:
            return n
    return 10_000


def crossing(
    x: Sequence[int | float], losses: Sequence[float | None], target: float
) -> float | None:
    """Where a curve first comes down to the target, between its points; None if it never does.

    Args:
        x: Steps, passes or seconds, ascending.
        losses: At each; None where not finite.
        target: The loss to reach.

    Examples:
        >>> print(crossing([0, 10, 20], [4.0, 3.0, 2.0], 2.5))
        15.0
    """
    before = None
    for here, loss in zip(x, losses, strict=True):
        if loss is not None and loss <= target:
            if before is None or before[1] == loss:
                return float(here)
            share = (before[1] - target) / (before[1] - loss)
            return before[0] + share * (here - before[0])
        before = None if loss is None else (float(here), loss)
    return None


def median_time(times: Sequence[float | None], level: float = 0.05) -> tuple[Interval, float]:
    """The median of times of which some are censored, with an interval that needs no shape.

    A censored time, None, is longer than any that was seen. Both ends of the interval are times of
    the sample, and infinite where a censored one would be it.

    Args:
        times: At least one.
        level: One minus the confidence asked for.

    Returns:
        The interval, and the confidence that it really has: that of so few times as six or fewer
        is below 95 %, even from the lowest to the highest.

    Examples:
        >>> median_time([10.0, 20.0, None])
        (Interval(estimate=20.0, low=10.0, high=inf), 0.75)
    """
    from scipy import stats

    found = sorted(math.inf if time is None else time for time in times)
    n = len(found)
    middle = (found[(n - 1) // 2], found[n // 2])
    median = math.inf if math.inf in middle else sum(middle) / 2
    outside = int(stats.binom.ppf(level / 2, n, 0.5))  # so many times may lie outside on a side
    outside = outside if stats.binom.cdf(outside - 1, n, 0.5) <= level / 2 else outside - 1
    outside = max(outside, 1)
    confidence = 1 - 2 * float(stats.binom.cdf(outside - 1, n, 0.5))
    return Interval(median, found[outside - 1], found[n - outside]), confidence


def performance_profile(
    times: Mapping[str, Sequence[float | None]], factors: Sequence[float]
) -> dict[str, list[float]]:
    """On which share of tasks each entry is within each factor of the fastest one.

    Args:
        times: One a task for each entry; None where it does not come to the target.
        factors: At least 1, ascending.

    Examples:
        >>> performance_profile({"a": [1.0, 4.0], "b": [2.0, None]}, [1.0, 2.0])
        {'a': [1.0, 1.0], 'b': [0.0, 0.5]}

    References:
        Dolan and More, Benchmarking optimization software with performance profiles, 2002
    """
    table = np.array([[math.inf if t is None else t for t in own] for own in times.values()])
    fastest = table.min(axis=0)
    with np.errstate(invalid="ignore"):
        ratios = np.where(np.isfinite(table), table / fastest, math.inf)
    shares = [[float(np.mean(own <= factor)) for factor in factors] for own in ratios]
    return dict(zip(times, shares, strict=True))


def algoperf_score(times: Sequence[float], shares: Sequence[float]) -> float:
    """The mean height of a performance profile, which is AlgoPerf's score.

    Args:
        times: The factors of the profile, ascending; AlgoPerf's go from 1 to 4.
        shares: The profile.

    Examples:
        >>> algoperf_score([1.0, 2.0, 4.0], [0.5, 1.0, 1.0])
        0.9166666666666666

    References:
        Dahl et al., Benchmarking neural network training algorithms, arXiv:2306.07179
    """
    return float(np.trapezoid(shares, times) / (times[-1] - times[0]))


def optimization_track(
    losses: Sequence[float], target: float, margin: float = 0.004
) -> tuple[bool, float]:
    """Whether runs meet a target by the rule of modded-nanogpt's optimization track.

    Args:
        losses: Final losses, one a run, of all runs that were made.
        target: What their mean has to be below, the further the fewer runs there are.
        margin: How far, for one run.

    Returns:
        Whether `(target - mean) * sqrt(runs)` comes to the margin, and that number.

    Examples:
        >>> met, reached = optimization_track([3.27, 3.28], 3.28)
        >>> print(met, round(reached, 4))
        True 0.0071

    References:
        https://github.com/KellerJordan/modded-nanogpt, records/track_3_optimization
    """
    reached = (target - float(np.mean(losses))) * math.sqrt(len(losses))
    return reached >= margin, reached
