"""How `gradsmith check` looks: progress while it runs, then what to do."""

from collections.abc import Iterable

from rich.console import Console, Group
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ..checks import Check, Report, Result

_MARKS = {
    "passed": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "unexpected": ("!", "bold red"),
    "expected": ("✗", "yellow"),
    "blocked": ("·", "dim"),
    "skipped": ("-", "dim"),
    "inconclusive": ("?", "yellow"),
}
_LABELS = {
    "expected": "expected",
    "seen": "seen",
    "reproduce": "reproduce with",
    "cause": "usual cause",
    "change": "change to make",
}


class Display:
    """A progress bar on standard error while the checks run; the report on standard output."""

    def __init__(self, subject: str, checks: Iterable[Check]):
        self._checks = tuple(checks)
        self._out = Console(soft_wrap=False, highlight=False)
        self._progress = Progress(
            TextColumn(f"checking {subject}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.description}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=len(self._checks))

    def __enter__(self) -> "Display":
        """Start the bar."""
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Take the bar away."""
        self._progress.stop()

    def started(self, check: Check) -> None:
        """Name the check that runs."""
        self._progress.update(self._task, description=check.name)

    def finished(self, result: Result) -> None:
        """Count a check."""
        self._progress.advance(self._task)
        if result.outcome == "failed" and result.tier != "advisory":
            self._progress.console.print(f"[bold red]✗[/] {result.check}")

    def show(self, report: Report) -> None:
        """Print one line a group, remarks in short, failures as advice, and the counts."""
        self._out.print(_by_group(report))
        for result in report.remarks:
            self._out.print(_remark(result))
        for result in report.failures:
            self._out.print(_failure(result))
        for line in report.open_questions:
            self._out.print(Text(line, "yellow"))
        told = [f"{name.replace('_', ' ')} {value:.3g}" for name, value in report.metrics.items()]
        if told:
            self._out.print(Text(", ".join(told), "dim"))
        if report.counts["ran"] == 0:
            self._out.print(Text("no check ran: nothing is known about it", "bold red"))
        self._out.print(Text(report.headline, "bold green" if report.ok else "bold red"))


def _by_group(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    groups: dict[str, Text] = {}
    for result in report.results:
        mark, style = _MARKS[result.outcome]
        if result.outcome == "failed" and result.tier == "advisory":
            mark, style = "~", "yellow"
        groups.setdefault(result.group, Text()).append(mark, style)
    for group, marks in groups.items():
        table.add_row(Text(group, "bold"), marks)
    return table


def _remark(result: Result) -> Group:
    advice = result.advice
    title = Text(f"~ {result.check}", "yellow").append(f" ({result.group}, advisory)", "dim")
    seen = Text(advice.seen.splitlines()[0] if advice else result.reason)
    change = Text(advice.change if advice else "", "dim")
    return Group(title, Padding(Group(seen, change), (0, 0, 0, 2)))


def _failure(result: Result) -> Group:
    title = Text(result.check, "bold red").append(f" ({result.group})", "dim")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for field, label in _LABELS.items():
        value = getattr(result.advice, field, "")
        if value:
            table.add_row(label, Text(value, "bold" if field == "change" else ""))
    return Group(Rule(title, align="left", style="red"), Padding(table, (0, 0, 1, 2)))
