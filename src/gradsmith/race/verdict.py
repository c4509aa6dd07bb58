"""What a race shows, in words, and never more than the data say."""

import math
from collections.abc import Sequence

from . import inference
from .protocol import Race
from .records import Record, in_digits
from .rows import LEVEL, Pair, pairs, rows


def verdict(race: Race, records: list[Record]) -> list[str]:
    """How each entry compares with the first of the table, and what else is shown."""
    table = [row for row in rows(race, records) if row.losses]
    said = []
    for row in table:
        diverged = row.losses.count(None)
        if diverged:
            said.append(
                f"{row.entry} diverged at {diverged} of {len(row.losses)} reported seeds, so it "
                "has no mean to compare"
            )
    if race.protocol.verdict == "track":
        return said + [
            _track(row.entry, [loss for loss in row.losses if loss is not None], race.task.target)
            for row in table
            if None not in row.losses
        ]
    if table:
        compared = pairs(race, records)
        first = table[0].entry
        said += [sentence(p, len(compared)) for p in compared if first in (p.better, p.worse)]
        others = [p for p in compared if first not in (p.better, p.worse)]
        said += _among_others([row.entry for row in table], others)
    return said


def _among_others(names: Sequence[str], compared: Sequence[Pair]) -> list[str]:
    worse_than = {
        name: [pair.worse for pair in compared if pair.shown and pair.better == name]
        for name in names
    }
    said = [
        f"{better} is better than {', '.join([*worse[:-2], ' and '.join(worse[-2:])])}, Holm"
        for better, worse in worse_than.items()
        if worse
    ]
    alike = sum(not pair.shown and pair.difference.pairs > 1 for pair in compared)
    if alike:
        said.append(f"not distinguishable among the others: {alike} of {len(compared)} pairs")
    return said


def lead(race: Race, records: list[Record]) -> str:
    """Who ended lowest, with its figures; that nobody did, while nothing is reported."""
    first, *others = rows(race, records)
    if math.isinf(first.loss):
        return "No entry has a mean loss on the report data."
    ended = f"{first.entry} ended lowest, at {in_digits(first.loss)}"
    half = (first.interval[1] - first.interval[0]) / 2
    known = "" if math.isnan(half) else f" ± {half:.2g}"
    seeds = f"mean of {len(first.losses)} seeds" if len(first.losses) > 1 else "one seed"
    time = first.steps_to_target
    reached = time is not None and math.isfinite(time.estimate)
    came = f"came to {race.task.target:g} after {time.estimate:.0f}" if time and reached else ""
    missed = f"did not come to {race.task.target:g} within {race.task.steps}"
    tied = [row.entry for row in others if first.tied and row.tied]
    but = f", but is not shown to be better than {' and '.join(tied)}" if tied else ""
    return f"{ended}{known} ({seeds}), and {came or missed} steps{but}."


def sentence(pair: Pair, comparisons: int) -> str:
    """What is known about a pair.

    Args:
        pair: The pair.
        comparisons: How many pairs the race compares; the seeds that are suggested allow for it.
    """
    difference = pair.difference
    size = in_digits(difference.mean)
    if difference.pairs < 2:
        return (
            f"{pair.better} ended {size} below {pair.worse} at one seed, which shows nothing: give "
            "more seeds"
        )
    n = f"n = {difference.pairs}"
    if pair.shown:
        half = in_digits((difference.interval[1] - difference.interval[0]) / 2)
        return f"{pair.better} is better than {pair.worse} by {size} ± {half} ({n}, {_p(pair.p)})"
    text = f"{pair.better} and {pair.worse} are not distinguishable ({n}, {_p(pair.p)})"
    if difference.mean == 0 or math.isnan(difference.deviation):
        return f"{text}: their mean losses are the same"
    wanted = inference.seeds_to_show(difference.mean, difference.deviation, LEVEL / comparisons)
    if wanted >= 1000:
        return f"{text}; more than 1000 seeds would be needed to show a difference of {size}"
    more = max(1, wanted - difference.pairs)
    return f"{text}; about {more} more seed{'s' * (more > 1)} would show a difference of {size}"


def _track(entry: str, losses: list[float], target: float) -> str:
    met, reached = inference.optimization_track(losses, target)
    return (
        f"{entry} {'meets' if met else 'does not meet'} the target {target:g} by the optimization "
        f"track's rule: (target - mean) sqrt(n) = {reached:.4f}, and 0.004 is needed "
        f"(n = {len(losses)})"
    )


def _p(p: float) -> str:
    return f"p {'< .0001' if p < 1e-4 else f'= {p:.4f}'.replace('0.', '.', 1)}, Holm"
