"""Folders of races that never ran: a configuration and records with made-up curves."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import optax
from race_helpers import parabola

from gradsmith.race import Curve, Entry, Protocol, Race, Record
from gradsmith.race.folder import configuration
from gradsmith.race.protocol import all_trials, best_trial
from gradsmith.race.provenance import about

ABOUT = {
    "command": "gradsmith race first second",
    "started": "2026-01-02T03:04:05+00:00",
}
VERSIONS = {"python": "3.11", "jax": "0.10", "device": "1 cpu (cpu)"}


def made(
    names, seeds=5, points=21, space=None, diverged=(), reported=True, **protocol
) -> tuple[Race, list[Record]]:
    """A race whose losses fall as powers of the step, faster near each entry's own best rate.

    Args:
        names: Of the entries.
        seeds: Reported.
        points: Of each curve.
        space: Of every entry; by default a grid of the race's rates.
        diverged: Pairs of an entry and a learning rate that it diverges at.
        reported: Whether the race is over, or tuning alone.
        protocol: The rest of it.
    """
    entries = tuple(Entry(name, optax.sgd, dict(space or {})) for name in names)
    entries = tuple(dataclasses.replace(e, about=f"2 leaves to {e.name}") for e in entries)
    task = dataclasses.replace(parabola(steps=300, target=2.2), name="made", unit="characters")
    race = Race(task, entries, protocol=Protocol(seeds=seeds, **{"extensions": 0, **protocol}))
    config = json.loads(json.dumps(configuration(race)))
    records: list[Record] = []

    def run(number, trial, settings, seed):
        name = names[number]
        steps = np.linspace(0, task.steps, points).astype(int).tolist()
        rng = np.random.default_rng(abs(hash_of(name, trial, seed)))
        rate = settings["learning_rate"]
        best = 2.0 + 0.08 * number + 0.1 * math.log10(rate / 0.02) ** 2 + 0.02 * rng.normal()
        losses = [round(best + 2.4 / (1 + step / 12), 4) for step in steps]
        lost = (name, rate) in diverged
        curve = Curve(steps, [2 * s for s in steps], [None, *losses[1:]], losses)
        if lost:
            curve = Curve(
                steps[:4],
                [2 * s for s in steps[:4]],
                [None, 9.0, 99.0, None],
                [4.0, 9.0, 99.0, None],
            )
        reached = [s for s, loss in zip(steps, losses, strict=True) if loss <= task.target]
        step = 0.015 * (1 + 0.2 * number)
        timing = {
            "run": 300 * step,
            "step": step * (1 + 0.02 * rng.random()),
            "update": 0.002 * number,
        }
        return Record(
            name,
            trial,
            settings,
            seed,
            None if lost else losses[-1],
            reached[0] if reached and not lost else None,
            37 if lost else None,
            {"forward": curve.step[-1], "backward": curve.step[-1]},
            curve,
            "0",
            config,
            VERSIONS,
            timing,
        )

    known = all_trials(race, [])
    for number, name in enumerate(names):
        records += [
            run(number, trial, settings, -1 - seed)
            for trial, settings in enumerate(known[name])
            for seed in range(race.protocol.runs_of_a_trial)
        ]
    for number, name in enumerate(names if reported else ()):
        best = best_trial(race, records, name)
        if best is not None:
            records += [run(number, best, known[name][best], seed) for seed in range(seeds)]
    return race, records


def hash_of(name, trial, seed) -> int:
    """The same in every process, which `hash` of a string is not."""
    return sum(map(ord, name)) * 10007 + trial * 101 + seed


def write(path: Path, race: Race, records: list[Record]) -> Path:
    """Write the folder as a race does."""
    path.mkdir(parents=True, exist_ok=True)
    told = about(race.entries)["entries"]
    told = {name: {**known, "code": f"def {name}(rate): ..."} for name, known in told.items()}
    there = {
        "config": configuration(race),
        "programs": {},
        "versions": VERSIONS,
        "about": {**ABOUT, "entries": told},
    }
    (path / "config.json").write_text(json.dumps(there))
    lines = [json.dumps(dataclasses.asdict(record)) for record in records]
    (path / "records.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return path
