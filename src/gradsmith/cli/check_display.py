"""How `gradsmith check` looks: progress while it runs, then what to do."""

from collections.abc import Iterable

from rich.console import Console, Group
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ..checks import Report, Result, all_checks
from ..checks.check import Check
from ..checks.registry import require_known
from ..checks.reproducer import statements
from .loading import UsageError

_MARKS = {
    "passed": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "unexpected": ("!", "bold red"),
    "expected": ("✗", "yellow"),
    "blocked": ("·", "dim"),
    "skipped": ("-", "dim"),
    "inconclusive": ("?", "yellow"),
}
_MEANINGS = {
    "✓": "passed",
    "✗": "failed",
    "!": "passes, and was expected to fail",
    "~": "a remark",
    "·": "not judged: what it needs did not pass",
    "-": "does not apply",
    "?": "inconclusive",
}
_LABELS = {
    "expected": "expected",
    "seen": "seen",
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
        """Print one line a group, remarks in short, failures as advice, and what was left out."""
        self._out.print(_by_group(report))
        self._out.print(_legend(report))
        for result in report.remarks:
            self._out.print(_remark(result))
        for result in report.failures:
            self._out.print(_failure(result))
            if result.advice and result.advice.reproduce:
                self._out.print(Text("reproduce with", "dim"))
                program = Text(f"{result.advice.reproduce}\n")
                self._out.print(program, soft_wrap=True)  # no line broken, so that it can be pasted
        for line in report.open_questions:
            self._out.print(Text(line, "yellow"))
        for line in report.not_applicable:
            self._out.print(Text(line, "dim"))
        told = [f"{name.replace('_', ' ')} {value:.3g}" for name, value in report.metrics.items()]
        if told:
            self._out.print(Text(", ".join(told), "dim"))
        if report.counts["ran"] == 0:
            self._out.print(Text("no check ran: nothing is known about it", "bold red"))
        self._out.print(Text(report.headline, "bold green" if report.ok else "bold red"))


def list_checks() -> int:
    """Print every check, its group, its tier and its first line."""
    table = Table("check", "group", "tier", "what it asks", box=None, highlight=False)
    for check in all_checks():
        table.add_row(check.name, check.group, check.tier, check.headline)
    Console(highlight=False).print(table)
    return 0


def explain_check(name: str) -> int:
    """Print the definition of a check, why it usually fails and what mends it.

    Raises:
        UsageError: No check has that name.
    """
    try:
        require_known([name])
    except ValueError as error:
        raise UsageError(str(error)) from None
    (check,) = [check for check in all_checks() if check.name == name]
    told = {
        "asks": "\n\n".join(" ".join(part.split()) for part in check.definition.split("\n\n")),
        "kind": ", ".join([check.group, check.tier, check.phase]),
        "needs": ", ".join((*check.needs, *check.requires)),
        "unless": ", ".join(check.unless),
        "reproduce with": "\n".join(statements(check.call, "FACTORY()")),
        "usual cause": check.cause,
        "change to make": check.change,
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in told.items():
        if text:
            table.add_row(label, Text(text))
    Console(highlight=False).print(Text(check.name, "bold"), table, sep="\n")
    return 0


def _mark(result: Result) -> tuple[str, str]:
    if result.outcome == "failed" and result.tier == "advisory":
        return "~", "yellow"
    return _MARKS[result.outcome]


def _legend(report: Report) -> Text:
    seen = {_mark(result)[0] for result in report.results}
    told = [f"{mark} {meaning}" for mark, meaning in _MEANINGS.items() if mark in seen]
    return Text("   ".join(told), "dim")


def _by_group(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    groups: dict[str, Text] = {}
    for result in report.results:
        groups.setdefault(result.group, Text()).append(*_mark(result))
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
    return Group(Rule(title, align="left", style="red"), Padding(table, (0, 0, 0, 2)))
