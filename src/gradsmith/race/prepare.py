"""Trace all that a race runs, before anything is compiled or written."""

import dataclasses
from collections.abc import Mapping

import jax
from jax.sharding import Mesh

from .compiled import Program, lower_entry
from .examine import examine_entry, examine_task
from .feeding import example
from .fingerprint import data_fingerprint, program_fingerprint
from .mesh import mesh_of, on, refuse_whole, sharing
from .protocol import Race
from .space import RATE, Settings
from .tasks import Stream, Task


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A race that can be run: everything is traced, nothing is compiled.

    Args:
        race: What is raced.
        programs: Of each entry with each choice of settings, by `program_name`.
        select: The loss of parameters on the selection data, lowered.
        report: On the report data.
        fingerprints: Of both with their data (as `task`), and of each program.
        mesh: The devices of a run, if there are several.
    """

    race: Race
    programs: Mapping[str, Program]
    select: jax.stages.Lowered
    report: jax.stages.Lowered
    fingerprints: Mapping[str, str | None]
    mesh: Mesh | None = None


def prepare(race: Race) -> Prepared:
    """Trace everything that is raced.

    Raises:
        RaceError: The task, an entry or the mesh cannot be raced.
    """
    mesh = mesh_of(race.mesh)
    with on(mesh):
        return _prepared(race, sharing(race.task, mesh), mesh)


def _prepared(race: Race, task: Task, mesh: Mesh | None) -> Prepared:
    examine_task(task)
    refuse_whole(task, mesh)
    programs = {}
    for entry in race.entries:
        for settings in race.first_trials(entry):
            name = program_name(entry.name, settings)
            if name not in programs:
                examine_entry(task, entry, settings)
                programs[name] = lower_entry(task, entry, settings, mesh)
    params = next(iter(programs.values())).abstract.params
    select, report = (jax.jit(task.loss).lower(params, d) for d in (task.selection, task.report))
    held_out = program_fingerprint(select, report)
    data = (
        task.selection,
        task.report,
        *([example(task)] if isinstance(task.batch, Stream) else []),
    )
    fingerprints = {
        "task": held_out and f"{held_out} {data_fingerprint(data)}",
        **{name: program.fingerprint() for name, program in programs.items()},
    }
    return Prepared(race, programs, select, report, fingerprints, mesh)


def program_name(entry: str, settings: Settings) -> str:
    """What a program is called: trials that differ in the learning rate alone share one.

    Examples:
        >>> program_name("muon", {"learning_rate": 0.02, "momentum": 0.9})
        'entry muon(momentum=0.9)'
    """
    others = [f"{name}={value!r}" for name, value in settings.items() if name != RATE]
    return f"entry {entry}({', '.join(others)})" if others else f"entry {entry}"
