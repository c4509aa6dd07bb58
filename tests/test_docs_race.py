"""The table of README's race is printed anew, from what those runs of minutes gave."""

import dataclasses
import re

import optax
from race_helpers import parabola, record
from rich.console import Console
from test_docs import ROOT
from test_docs_outputs import shows

from gradsmith.race import Curve, Entry, Protocol, Race
from gradsmith.race.table import notes, table

COMMAND = "gradsmith race adamw muon examples/my_optimizer.py:my_optimizer"
RATES = (0.002, 0.02, 0.2)
TUNED = {  # at each rate: final loss, milliseconds a step
    "adamw": ((2.2457, 29.08), (2.12, 29.9), (2.5452, 30.29)),
    "muon": ((2.4365, 32.74), (2.0032, 35.14), (2.0436, 37.45)),
    "my_optimizer": ((2.3838, 32.31), (2.1243, 27.02), (2.3703, 32.69)),
}
REPORTED = {  # at each seed: final loss, the step at which the curve is at 2.2, milliseconds a step
    "adamw": ((2.0720935, 193, 31.76), (2.0857844, 197, 30.34), (2.0751095, 185, 28.22)),
    "muon": ((1.9285073, 124, 36.9), (1.9646451, 144, 36.31), (1.9306849, 124, 31.88)),
    "my_optimizer": ((2.0576355, 174, 33.03), (2.0705323, 187, 31.21), (2.1108377, 201, 30.45)),
}
UPDATE = {"adamw": 0.178, "muon": 3.409, "my_optimizer": 0.271}


def made(entry, trial, seed, loss, crossed, milliseconds):
    curve = Curve([0, crossed, 300], [0, 2, 600], [None, 2.2, loss], [4.0, 2.2, loss])
    times = {"run": 10.0, "step": milliseconds / 1e3, "update": UPDATE[entry] / 1e3}
    return record(entry, RATES[trial], seed, loss, trial=trial, curve=curve, timing=times)


def printed():
    entries = tuple(Entry(name, optax.sgd) for name in TUNED)
    task = dataclasses.replace(parabola(steps=300, target=2.2), name="shakespeare")
    race = Race(task, entries, RATES, Protocol())
    records = [
        made(name, trial, -1, loss, 300, step)
        for name, runs in TUNED.items()
        for trial, (loss, step) in enumerate(runs)
    ] + [
        made(name, 1, seed, *run)
        for name, runs in REPORTED.items()
        for seed, run in enumerate(runs)
    ]
    console = Console(width=80, no_color=True)
    with console.capture() as output:
        console.print(table(race, records))
        for note in notes(race, records):
            console.print(note, highlight=False, markup=False)
    return "\n".join(line.rstrip() for line in output.get().splitlines())


def quoted():
    page = (ROOT / "README.md").read_text()
    [block] = re.findall(rf"^    \$ {re.escape(COMMAND)}\n((?:    .*\n|\n)*)", page, re.MULTILINE)
    return "\n".join(line.removeprefix("    ").rstrip() for line in block.strip("\n").splitlines())


def test_readme_shows_the_table_and_the_verdict_of_its_runs():
    block = quoted()
    assert block.endswith("\n...")
    assert shows(printed(), block), printed()


def test_another_figure_is_seen():
    assert not shows(printed(), quoted().replace("124 to 144", "125 to 144"))
    assert not shows(printed(), quoted().replace("n = 3", "n = 4"))
