"""Trace all that a race runs, before anything is compiled or written."""

import dataclasses
from collections.abc import Mapping

import jax

from .compiled import Program, lower_entry
from .examine import examine_entry, examine_task
from .fingerprint import data_fingerprint, program_fingerprint
from .protocol import Race


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A race that can be run: everything is traced, nothing is compiled.

    Args:
        race: What is raced.
        programs: The program of each entry.
        evaluate: The validation loss of parameters, lowered.
        fingerprints: Of `evaluate` with its data (as `task`) and of each entry's program.
    """

    race: Race
    programs: Mapping[str, Program]
    evaluate: jax.stages.Lowered
    fingerprints: Mapping[str, str | None]


def prepare(race: Race) -> Prepared:
    """Trace everything that is raced.

    Raises:
        RaceError: The task or an entry cannot be raced.
    """
    examine_task(race.task)
    for entry in race.entries:
        examine_entry(race.task, entry)
    programs = {entry.name: lower_entry(race.task, entry) for entry in race.entries}
    params = next(iter(programs.values())).abstract.params
    evaluate = jax.jit(race.task.loss).lower(params, race.task.validation)
    validation = program_fingerprint(evaluate)
    fingerprints = {
        "task": validation and f"{validation} {data_fingerprint(race.task.validation)}",
        **{f"entry {name}": program.fingerprint() for name, program in programs.items()},
    }
    return Prepared(race, programs, evaluate, fingerprints)
