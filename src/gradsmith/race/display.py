"""Tell a person how the race goes: bars in a terminal, lines elsewhere, or nothing."""

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from .protocol import Race, Run, written
from .records import Record
from .space import Settings


class Display:
    """Hears of everything and shows nothing; a context manager, closed when the race is over."""

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        pass

    def begin(self, race: Race, records: list[Record]) -> None:
        """The race begins; some of its runs may have been finished earlier."""

    def compiling(self, entry: str) -> None:
        """An entry, with its settings where there are any, is being compiled and timed."""

    def start(self, run: Run, settings: Settings) -> None:
        """`run` begins, or goes on."""

    def advance(self, step: int, loss: float, seconds: float) -> None:
        """The run has come to `step`, with this validation loss, `seconds` after the last call."""

    def finish(self, record: Record) -> None:
        """The run is over."""

    def remark(self, text: str) -> None:
        """Something happened that a person should know."""


class Lines(Display):
    """A line for everything that is finished."""

    def __init__(self, console: Console | None = None):
        self._console = console or Console(stderr=True)

    def _print(self, text: str) -> None:
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def begin(self, race: Race, records: list[Record]) -> None:
        """Say where the race goes on."""
        self._left = race.runs_at_most() - len(records)
        if records:
            self._print(f"going on after {len(records)} finished runs")

    def compiling(self, entry: str) -> None:
        """Say that it has begun."""
        self._print(f"compiling {entry}")

    def finish(self, record: Record) -> None:
        """Say what came out."""
        self._left -= 1
        self._print(f"{describe(record)}; to go: at most {self._left}")

    def remark(self, text: str) -> None:
        """Say it."""
        self._print(text)


class Bars(Display):
    """One bar for the race with the time left, one for the run with its loss and throughput."""

    def __init__(self, console: Console | None = None):
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[remark]}"),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
            speed_estimate_period=120.0,
            transient=True,
        )

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *exc_info):
        self._progress.stop()

    def begin(self, race: Race, records: list[Record]) -> None:
        """Show the bars, that of the race with what was finished before."""
        self._task, self._runs, self._finished = race.task, race.runs_at_most(), len(records)
        steps = race.task.steps
        self._race = self._progress.add_task(
            "race", total=self._runs * steps, completed=self._finished * steps, remark=self._count()
        )
        self._run = self._progress.add_task("", total=None, remark="")

    def compiling(self, entry: str) -> None:
        """Show its name beside a bar without an end."""
        self._progress.update(self._run, description=escape(f"compiling {entry}"))

    def start(self, run: Run, settings: Settings) -> None:
        """Name the run and set its bar back."""
        self._step = 0
        self._progress.reset(
            self._run, description=escape(name(run, settings)), total=self._task.steps, remark=""
        )

    def advance(self, step: int, loss: float, seconds: float) -> None:
        """Move both bars; show loss and throughput."""
        steps, self._step = step - self._step, step
        speed = steps * self._task.examples_per_step / seconds
        remark = f"loss {loss:.3f}, {speed:,.0f} {self._task.unit}/s"
        self._progress.update(self._run, completed=step, remark=remark)
        self._progress.advance(self._race, steps)

    def finish(self, record: Record) -> None:
        """Leave a line above the bars."""
        self._finished += 1
        rest = self._task.steps - self._step  # of a run that diverged
        self._progress.update(self._race, advance=rest, remark=self._count())
        self._progress.console.print(escape(describe(record)), highlight=False)

    def remark(self, text: str) -> None:
        """Leave it above the bars."""
        self._progress.console.print(escape(text), highlight=False, soft_wrap=True)

    def _count(self) -> str:
        return f"{self._finished} of {self._runs} runs"


def name(run: Run | Record, settings: Settings) -> str:
    """A run as a reader calls it."""
    seed = f"seed {run.seed}" if run.seed >= 0 else f"tuning seed {-run.seed}"
    return f"{run.entry}, {written(settings)}, {seed}"


def describe(record: Record) -> str:
    """What came out of a run, in a line."""
    seconds = f"{record.timing['run']:.1f} s"
    return f"{name(record, record.settings)}: {record.outcome()} ({seconds})"
