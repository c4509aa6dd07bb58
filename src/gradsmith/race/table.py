"""The table of a race, as text: what the terminal shows and the report repeats."""

import math

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from .inference import Interval
from .protocol import Race, all_trials, written
from .records import Record, duration, in_digits
from .rows import Row, rows
from .trouble import troubles
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
        _trial(row),
        _losses(row),
        _steps(row.steps_to_target) if row.losses or row.all_diverged else "to come",
        duration(row.step) if row.runs else "to come",
        f"{row.update_share:.1%}" if row.runs else "to come",
    ]


def notes(race: Race, records: list[Record]) -> list[str]:
    """What has to be said about the table: the verdict, ties, what went wrong, its worth."""
    return [
        *verdict(race, records),
        *ties(race, records),
        *troubles(race, records),
        *(f"{entry.name}: {entry.about}" for entry in race.entries if entry.about),
        *schedules(race),
        *passes(race, records),
        worth(race, records),
    ]


def ties(race: Race, records: list[Record]) -> list[str]:
    """Who is first together."""
    tied = [row.entry for row in rows(race, records) if row.tied]
    if not tied:
        return []
    return [f"= {' and '.join(tied)}: no entry is shown to be better; their order is chance"]


def schedules(race: Race) -> list[str]:
    """Whose learning rate goes another way than everyone's."""
    return [
        f"{entry.name} has a schedule of its own: {entry.own_schedule}"
        for entry in race.entries
        if entry.own_schedule
    ]


def passes(race: Race, records: list[Record]) -> list[str]:
    """Who evaluates the model more than once in a step."""
    return [
        f"{row.entry} takes {row.passes[0]:.3g} forward and {row.passes[1]:.3g} backward passes "
        "through the model in a step, where others take one of each: steps do not compare; it "
        f"comes to the target after {_steps(row.passes_to_target)} passes"
        for row in rows(race, records)
        if row.runs and max(row.passes) > 1
    ]


def tuned_by(race: Race, records: list[Record]) -> str:
    """How many trials an entry had: '3 trials', or with those of extensions."""
    first = len(race.first_trials(race.entries[0]))
    more = len(all_trials(race, records)[race.entries[0].name]) - first
    said = f"{first} trial{'s' * (first > 1)}"
    return f"{said} and {more} more, as a best learning rate was at an edge," if more else said


def worth(race: Race, records: list[Record]) -> str:
    """What the race shows, and what it does not."""
    protocol = race.protocol
    each = protocol.tuned == "each"
    chosen = (
        "The p values are of the trials that were chosen; --tuned each makes them of the choice."
    )
    return (
        f"It holds for this task, {race.task.steps} steps and entries tuned"
        f"{' for each reported seed' if each else ''} by {tuned_by(race, records)} at "
        f"{protocol.tuning_seeds} seed{'s' * (protocol.tuning_seeds > 1)}; nothing was chosen on "
        f"what is reported. {'' if each else chosen + ' '}A claim about other tasks, sizes or "
        "lengths needs a race on them; one about well-tuned optimizers a larger budget over all "
        "settings that matter."
    )


def table(race: Race, records: list[Record]) -> RichTable:
    """The table for a terminal of 80 columns or more: the best trial under the name."""
    out = RichTable(
        title=f"Race on {race.task.name}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    entry, trial, *others = headings(race)
    out.add_column(f"{entry}\n  {trial}", overflow="fold")
    for heading in others:
        text = heading.replace(" of ", "\nof ").replace(" a ", " a\n").replace(" / ", " /\n")
        out.add_column(text, justify="right", vertical="top", no_wrap=True)
    for row in rows(race, records):
        name, settings, *figures = cells(row)
        first = Group(Text(name), Padding(Text(settings), (0, 0, 0, 2)))
        out.add_row(first, *map(Text, figures))
    return out


def _trial(row: Row) -> str:
    if row.settings is None:
        return "none" if row.runs else "to come"
    return f"{written(row.settings)}{' *' if row.on_edge else ''}"


def _losses(row: Row) -> str:
    if row.all_diverged:
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
