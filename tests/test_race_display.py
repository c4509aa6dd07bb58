"""A terminal sees a line an entry, a file sees lines."""

import io

from race_helpers import race, record
from rich.console import Console

from gradsmith.race import Bars, Lines
from gradsmith.race.protocol import Run

NAME = "sgd [red]"


def play(display, see=lambda: None):
    """Tell the display of a race; `see` is what a terminal does ten times a second."""
    asked = race(NAME, "other", steps=20)
    with display:
        display.begin(asked, [record(NAME, rate=0.01, seed=-1)])
        display.compiling(NAME)
        see()
        display.start(Run(NAME, 1, -1), {"learning_rate": 0.1})
        display.advance(0, 2.0, 1.0)
        display.advance(10, 3.25, 2.0)
        see()
        display.finish(record(NAME, 0.1, -1, diverged_at=12))
        display.remark("a [checkpoint] is lost")
        see()


def test_a_file_gets_plain_lines():
    file = io.StringIO()
    play(Lines(Console(file=file, force_terminal=False)))
    assert file.getvalue().splitlines() == [
        "going on after 1 finished run",
        "compiling sgd [red]",
        "sgd [red], rate 0.1, tuning seed 1: diverged at step 12 █▁!",
        "  1 s, 20 examples/s; 2 of at most 10 runs; tuning, about 4 s left",
        "a [checkpoint] is lost",
    ]
    assert all(len(line) <= 80 for line in file.getvalue().splitlines())
    assert all(letter.isprintable() or letter == "\n" for letter in file.getvalue())


class Screen:
    """What stands in a terminal of 80 columns at each look, without colours."""

    def __init__(self):
        self.file = io.StringIO()
        console = Console(
            file=self.file, force_terminal=True, width=80, color_system=None, legacy_windows=False
        )
        self.bars, self.looks = Bars(console), []

    def look(self):
        console = Console(width=80, color_system=None)
        with console.capture() as capture:
            console.print(self.bars._live.get_renderable())
        self.looks.append(capture.get())


def test_a_terminal_shows_a_line_an_entry():
    screen = Screen()
    play(screen.bars, screen.look)
    compiling, running, over = screen.looks
    first, second, last = compiling.splitlines()
    assert first.startswith("sgd [red]")
    assert "█▇▁ " in first  # the curve of what was finished before
    assert "1.000" in first
    assert first.rstrip().endswith("compiling")
    assert second.split() == ["other", "waiting"]
    assert last.startswith("1 of at most 10 runs; tuning, about 5 s left")
    flat = " ".join(running.split())
    assert "▁█ 3.250 rate 0.1, tuning seed 1, 5 examples/s, loss above its start" in flat
    assert "waiting, 1 diverged" in over
    assert all(len(line) <= 80 for look in screen.looks for line in look.splitlines())


def test_what_a_person_should_keep_stays_above_the_lines():
    screen = Screen()
    play(screen.bars)
    shown = screen.file.getvalue()
    assert "sgd [red], rate 0.1, tuning seed 1: diverged at step 12 (1 s)" in shown
    assert "a [checkpoint] is lost" in shown
