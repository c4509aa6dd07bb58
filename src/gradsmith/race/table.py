"""The table of a race, as text: what the terminal shows and the report repeats."""

import math

from rich.table import Table as RichTable
from rich.text import Text

from .inference import Interval
from .protocol import Race, written
from .records import Record, in_digits
from .rows import Row, rows
from .verdict import verdict


def headings(race: Race) -> list[str]:
    """The names of the columns."""
    seeds = race.protocol.seeds
    return [
        "entry",
        "best trial",
        f"loss, {'1 seed' if seeds == 1 else f'mean of {seeds} seeds'}",
        f"steps to {race.task.target:g}",
        "time a step",
        "update / step",
    ]


def cells(row: Row) -> list[str]:
    """One line of the table."""
    return [
        f"{row.entry}{' =' if row.tied else ''}",
        "none" if row.settings is None else f"{written(row.settings)}{' *' if row.on_edge else ''}",
        _losses(row),
        _steps(row.steps_to_target),
        _duration(row.step),
        f"{row.update_share:.1%}",
    ]


def notes(race: Race, records: list[Record]) -> list[str]:
    """What has to be said about the table: the verdict, ties, edges, divergence, its worth."""
    shown = rows(race, records)
    said = verdict(race, records)
    tied = [row.entry for row in shown if row.tied]
    if tied:
        said.append(
            f"= {' and '.join(tied)}: no entry is shown to be better; their order is chance"
        )
    said += [f"{entry.name}: {entry.about}" for entry in race.entries if entry.about]
    said += [
        f"{row.entry} takes {row.passes[0]:.3g} forward and {row.passes[1]:.3g} backward passes "
        "through the model in a step, where others take one of each: steps do not compare; it "
        f"comes to the target after {_steps(row.passes_to_target)} passes"
        for row in shown
        if max(row.passes) > 1
    ]
    edges = [row.entry for row in shown if row.on_edge]
    if edges:
        said.append(
            f"* the lowest or highest learning rate tried: a better one for {' and '.join(edges)} "
            "may lie outside; race again with wider rates"
        )
    said += [
        f"{r.entry} with {written(r.settings)} and "
        f"{f'seed {r.seed}' if r.seed >= 0 else f'tuning seed {-r.seed}'} {r.outcome()}"
        for r in records
        if r.diverged_at is not None
    ]
    return [*said, worth(race)]


def worth(race: Race) -> str:
    """What the race shows, and what it does not."""
    budget, protocol = len(race.first_trials(race.entries[0])), race.protocol
    each = protocol.tuned == "each"
    chosen = (
        "The p values are of the trials that were chosen; --tuned each makes them of the choice."
    )
    return (
        f"It holds for this task, {race.task.steps} steps and entries tuned"
        f"{' for each reported seed' if each else ''} by {budget} trial{'s' * (budget > 1)} at "
        f"{protocol.tuning_seeds} seed{'s' * (protocol.tuning_seeds > 1)}; nothing was chosen on "
        f"what is reported. {'' if each else chosen + ' '}A claim about other tasks, sizes or "
        "lengths needs a race on them; one about well-tuned optimizers a larger budget over all "
        "settings that matter."
    )


def table(race: Race, records: list[Record]) -> RichTable:
    """The table for a terminal."""
    out = RichTable(title=f"Race on {race.task.name}", title_justify="left")
    for number, heading in enumerate(headings(race)):
        out.add_column(heading, justify="right" if number else "left", vertical="bottom")
    for row in rows(race, records):
        out.add_row(*map(Text, cells(row)))
    return out


def _losses(row: Row) -> str:
    if row.settings is None:
        return "diverged at every trial"
    diverged = row.losses.count(None)
    if diverged:
        return f"{diverged} of {len(row.losses)} diverged"
    if not row.losses:
        return "to come"
    mean = in_digits(row.loss)
    if len(row.losses) == 1:
        return mean
    return f"{mean} ± {(row.interval[1] - row.interval[0]) / 2:.2g}"


def _steps(time: Interval | None) -> str:
    """A median with its interval; what lies beyond the end of the runs is not reached."""
    if time is None or math.isinf(time.estimate):
        return "not reached"
    if time.low == time.high:
        return f"{time.estimate:.0f}"
    high = "never" if math.isinf(time.high) else f"{time.high:.0f}"
    return f"{time.estimate:.0f} ({time.low:.0f} to {high})"


def _duration(seconds: float) -> str:
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
