"""The table of a race, as text: what the terminal shows and the report repeats."""

from rich.table import Table as RichTable
from rich.text import Text

from .protocol import Race
from .records import Record, in_digits
from .rows import Row, rows


def headings(race: Race) -> list[str]:
    """The names of the columns."""
    seeds = "1 seed" if race.seeds == 1 else f"mean (range) of {race.seeds} seeds"
    return [
        "entry",
        "best rate",
        f"validation loss, {seeds}",
        f"steps to {race.task.target:g}",
        "time a step",
        "update / step",
    ]


def cells(row: Row) -> list[str]:
    """One line of the table."""
    return [
        row.entry,
        "none" if row.rate is None else f"{row.rate:g}{' *' if row.on_edge else ''}",
        _losses(row),
        "not reached" if row.steps_to_target is None else f"{row.steps_to_target:g}",
        _duration(row.step),
        f"{row.update_share:.1%}",
    ]


def notes(race: Race, records: list[Record]) -> list[str]:
    """What has to be said about the table: edges, divergence, and what it is worth."""
    shown = rows(race, records)
    said = [f"{entry.name}: {entry.about}" for entry in race.entries if entry.about]
    said += [
        f"{row.entry} takes {row.passes[0]:.3g} forward and {row.passes[1]:.3g} backward passes "
        "through the model in a step, where others take one of each: steps do not compare"
        for row in shown
        if max(row.passes) > 1
    ]
    edges = [row.entry for row in shown if row.on_edge]
    if edges:
        grid = ", ".join(f"{rate:g}" for rate in race.rates)
        where = f"at the edge of the grid ({grid})" if len(race.rates) > 1 else "the only rate"
        said.append(
            f"* {where}: a better one for {' and '.join(edges)} may lie outside; race again with "
            "wider --rates"
        )
    said += [
        f"{r.entry} with rate {r.rate:g} and seed {r.seed} {r.outcome()}"
        for r in records
        if r.diverged_at is not None
    ]
    return [*said, worth(race)]


def worth(race: Race) -> str:
    """What the race shows, and what it does not."""
    rates, seeds = len(race.rates), race.seeds
    return (
        f"This is a demonstration, not evidence: one task, {race.task.steps} steps, "
        f"{rates} learning rate{'s' * (rates > 1)} at one seed each, "
        f"{seeds} seed{'s' * (seeds > 1)} at the best. Evidence that one optimizer is better than "
        "another would take, for every entry, a grid that brackets its best rate in steps of 2 or "
        "less and the same search over its other settings; five seeds or more, none of them used "
        "for tuning, with a confidence interval of the difference; and tasks, sizes and lengths "
        "like those that the claim is about."
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
    if row.rate is None:
        return "diverged at every rate"
    finite = [loss for loss in row.losses if loss is not None]
    if len(finite) < len(row.losses):
        return f"{len(row.losses) - len(finite)} of {len(row.losses)} diverged"
    mean = in_digits(row.loss)
    if len(finite) == 1:
        return mean
    return f"{mean} ({in_digits(min(finite))} to {in_digits(max(finite))})"


def _duration(seconds: float) -> str:
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
