"""A terminal sees bars, a file sees lines."""

import io

from race_helpers import race, record
from rich.console import Console

from gradsmith.race import Bars, Lines
from gradsmith.race.protocol import Run


def play(display, see=lambda: None):
    """Tell the display of a race; `see` is what a terminal does ten times a second."""
    asked = race(steps=20)
    with display:
        display.begin(asked, [record(rate=0.01, seed=-1)])
        display.compiling("sgd")
        see()
        display.start(Run("sgd [red]", 1, -1), {"learning_rate": 0.1})
        display.advance(10, 3.25, 2.0)
        see()
        display.finish(record("sgd [red]", 0.1, -1, diverged_at=12))
        display.remark("a [checkpoint] is lost")


def test_a_file_gets_plain_lines():
    file = io.StringIO()
    play(Lines(Console(file=file, force_terminal=False)))
    assert file.getvalue().splitlines() == [
        "going on after 1 finished runs",
        "compiling sgd",
        "sgd [red], rate 0.1, tuning seed 1: diverged at step 12 (1.0 s); to go: at most 3",
        "a [checkpoint] is lost",
    ]


def test_a_terminal_shows_run_loss_throughput_and_time_left():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=140, legacy_windows=False)
    bars = Bars(console)
    play(bars, bars._progress.refresh)
    shown = file.getvalue()
    assert "compiling sgd" in shown
    assert "sgd [red], rate 0.1, tuning seed 1" in shown
    assert "loss 3.250, 5 examples/s" in shown
    assert "1 of 5 runs" in shown
    assert "2 of 5 runs" in shown
    assert "diverged at step 12" in shown
    assert "a [checkpoint] is lost" in shown


def test_a_diverged_run_counts_as_done():
    bars = Bars(Console(file=io.StringIO(), force_terminal=True))
    play(bars)
    assert bars._progress.tasks[0].completed == 40
