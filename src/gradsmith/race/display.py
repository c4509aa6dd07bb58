"""Tell a person how the race goes: a line an entry in a terminal, a log elsewhere, or nothing."""

import dataclasses
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .protocol import Race, Run, written
from .records import Record, duration, in_digits
from .space import Settings
from .sparkline import sparkline
from .tally import Tally, about


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

    def elsewhere(self, doing: Sequence[str]) -> None:
        """What the processes are at that race in this folder, of a race that is only followed."""

    def remark(self, text: str) -> None:
        """Something happened that a person should know."""


class Lines(Display):
    """Two lines for every finished run, for a file: no colours, nothing that moves."""

    def __init__(self, console: Console | None = None):
        self._console = console or Console(stderr=True)

    def _print(self, text: str) -> None:
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def begin(self, race: Race, records: list[Record]) -> None:
        """Say where the race goes on."""
        self._tally, self._task = Tally(race, records), race.task
        if records:
            self._print(f"going on after {len(records)} finished {_runs(len(records))}")

    def compiling(self, entry: str) -> None:
        """Say that it has begun."""
        self._print(f"compiling {entry}")

    def finish(self, record: Record) -> None:
        """Say what came out, with the curve, the throughput and the time left."""
        self._tally.add(record)
        speed = record.curve.step[-1] * self._task.examples_per_step / (record.timing["run"] or 1)
        curve = sparkline(record.curve.validation_loss)
        self._print(f"{name(record, record.settings)}: {record.outcome()} {curve}")
        self._print(
            f"  {duration(record.timing['run'])}, {speed:,.0f} {self._task.unit}/s; "
            f"{progress(self._tally)}"
        )

    def remark(self, text: str) -> None:
        """Say it."""
        self._print(text)


@dataclasses.dataclass
class _Lane:
    """What the line of one entry shows."""

    doing: str = "waiting"
    speed: str = ""
    curve: list[float | None] = dataclasses.field(default_factory=list)


class Bars(Display):
    """A line an entry: the curve of its run as small bars, its loss, throughput, and what it does.

    Below them the stage of the race, and the time left.
    """

    def __init__(self, console: Console | None = None):
        self._console = console or Console(stderr=True)
        self._live = Live(console=self._console, transient=True, refresh_per_second=4)
        self._lanes: dict[str, _Lane] = {}

    def __enter__(self):
        self._live.start()
        return self

    def __exit__(self, *exc_info):
        self._live.stop()

    def begin(self, race: Race, records: list[Record]) -> None:
        """Show the lines, with what was finished before."""
        self._task, self._tally = race.task, Tally(race, records)
        self._lanes = {entry.name: _Lane() for entry in race.entries}
        for record in records:
            self._lanes[record.entry].curve = list(record.curve.validation_loss)
        self._draw()

    def compiling(self, entry: str) -> None:
        """Say so in the line of the entry."""
        self._end_of_compiling()
        self._lanes[self._lane_of(entry)].doing = "compiling"
        self._draw()

    def start(self, run: Run, settings: Settings) -> None:
        """Begin the curve of the run."""
        self._end_of_compiling()
        self._step, self._lane = 0, self._lanes[run.entry]
        self._lane.doing, self._lane.curve = name(run, settings).removeprefix(f"{run.entry}, "), []
        self._draw()

    def advance(self, step: int, loss: float, seconds: float) -> None:
        """Draw the curve on, with the throughput."""
        steps, self._step = step - self._step, step
        self._lane.curve.append(loss)
        speed = steps * self._task.examples_per_step / seconds
        self._lane.speed = f"{speed:,.0f} {self._task.unit}/s"
        self._draw()

    def finish(self, record: Record) -> None:
        """Count it; a run that diverged leaves a line above."""
        self._tally.add(record)
        lane = self._lanes[record.entry]
        lane.doing, lane.speed = "waiting", ""
        lane.curve = list(record.curve.validation_loss)
        if record.diverged_at is not None:
            self.remark(describe(record))
        self._draw()

    def elsewhere(self, doing: Sequence[str]) -> None:
        """Say it in the lines of the entries."""
        found: dict[str, list[str]] = {entry: [] for entry in self._lanes}
        for text in doing:
            what = text.removeprefix("compiling ")
            if entry := self._lane_of(what):
                found[entry].append("compiling" if what != text else what[len(entry) + 2 :])
        for entry, lane in self._lanes.items():
            lane.doing = "; ".join(found[entry]) or "waiting"
        self._draw()

    def remark(self, text: str) -> None:
        """Leave it above the lines."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def _lane_of(self, text: str) -> str:
        """The entry that a text begins with; empty if none."""
        return max((entry for entry in self._lanes if text.startswith(entry)), key=len, default="")

    def _end_of_compiling(self) -> None:
        for lane in self._lanes.values():
            lane.doing = "waiting" if lane.doing == "compiling" else lane.doing

    def _draw(self) -> None:
        table = Table.grid(padding=(0, 1))
        for width in (18, 20, 9):
            table.add_column(width=width, no_wrap=True, overflow="ellipsis")
        table.add_column()
        for entry, lane in self._lanes.items():
            doing = ", ".join(filter(None, (lane.doing, lane.speed, self._lost(entry, lane))))
            loss = in_digits(lane.curve[-1]) if lane.curve and lane.curve[-1] is not None else ""
            table.add_row(*map(Text, (entry, sparkline(lane.curve), loss, doing)))
        self._live.update(Group(table, Text(progress(self._tally))), refresh=True)

    def _lost(self, entry: str, lane: _Lane) -> str:
        """What diverges, or has."""
        known = [value for value in lane.curve if value is not None]
        rising = "loss above its start" if known and known[-1] > known[0] else ""
        count = self._tally.diverged(entry)
        return ", ".join(filter(None, (rising, f"{count} diverged" if count else "")))


def default_display() -> Display:
    """What stderr can show."""
    console = Console(stderr=True)
    return (Bars if console.is_terminal else Lines)(console)


def name(run: Run | Record, settings: Settings) -> str:
    """A run as a reader calls it."""
    seed = f"seed {run.seed}" if run.seed >= 0 else f"tuning seed {-run.seed}"
    return f"{run.entry}, {written(settings)}, {seed}"


def describe(record: Record) -> str:
    """What came out of a run, in a line."""
    return f"{name(record, record.settings)}: {record.outcome()} ({duration(record.timing['run'])})"


def progress(tally: Tally) -> str:
    """The runs and the stage, in a line."""
    left = tally.seconds_left()
    time = "" if left is None else f", about {about(left)} left"
    return f"{tally.finished} of at most {tally.total} {_runs(tally.total)}; {tally.stage}{time}"


def _runs(count: int) -> str:
    return "run" if count == 1 else "runs"
