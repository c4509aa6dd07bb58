"""`gradsmith race`: train with several optimizers under one protocol, and compare."""

import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

import gradsmith

from ..race import RATES, SUITES, Protocol, Race, RaceError, run_race, write_report
from ..race.display import Display, Lines
from ..race.folder import default_folder
from ..race.mesh import mesh_of, on
from ..race.plan import in_words
from ..race.plan import plan as make_plan
from ..race.prepare import Prepared, prepare
from ..race.processes import is_first
from ..race.table import notes, table
from .loading import UsageError
from .parameters import axis_sizes
from .race_entries import load_entries, with_routing
from .race_executor import executor_of
from .race_join import join as join_processes
from .race_numbers import parse_numbers
from .race_suite import others_have_runs_left, race_suite, suite_folder
from .race_task import load_task
from .race_widths import show_widths
from .terminal import INTERRUPTED, console

PACKAGES = ("flax", "orbax.checkpoint")

Repeated = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


def race(
    entries: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ENTRY ...")],
    /,
    task: str = "shakespeare",
    rates: tuple[str, ...] = tuple(map(str, RATES)),
    search: Literal["grid", "sobol", "halton"] | None = None,
    budget: int | None = None,
    tuned: Literal["once", "each"] = "once",
    tuning_seeds: int = 1,
    seeds: int = 3,
    selection: Literal["loss", "steps"] = "loss",
    verdict: Literal["paired", "track"] = "paired",
    extensions: int = 1,
    label: Repeated = (),
    schedule: Repeated = (),
    arg: Repeated = (),
    task_arg: Repeated = (),
    out: Path | None = None,
    worker: str | None = None,
    ray: str | None = None,
    mesh: str = "",
    join: str = "",
    widths: tuple[str, ...] = (),
    watch: bool = True,
    plan: bool = False,
) -> int:
    """Race optimizers on one task: the same budget, seeds and schedule for everyone.

    Each entry is tuned by the same number of trials, and its best one is compared with the others
    at other seeds, on other data. A race that was stopped or killed goes on when the same command
    is given again.

    What is raced is looked after by `gradsmith race status FOLDER`, `watch`, `merge` and `export`.

    Args:
        entries: Who runs: `muon`, `adamw` or another name in gradsmith, optax or optax.contrib, a
            dotted name, or `file.py:factory`. The parameter `learning_rate` or `lr` gets the
            rate; a factory in a file may call it otherwise if it comes first. Arguments follow
            in parentheses, lists and ranges are tuned over:
            `'muon(learning_rate=log(2e-3, 2e-1), momentum=[0.9, 0.95])'`.
        task: What to train: `shakespeare` or another name in docs/race.md, `file.py:make_task` of
            your own, or `small`: eight tasks, with a profile over all of them at the end.
        rates: The learning rates of every entry that names none, such as `0.005,0.02`. A search
            takes all numbers from the lowest to the highest.
        search: `grid` tries every combination; `sobol` and `halton` try as many points as the
            budget says. By default `sobol` where a budget is given, else `grid`.
        budget: Trials of each entry, the same for all.
        tuned: `once` for all reported seeds, or anew for `each`; then the p values hold the chance
            of the choice too. It takes as many times the trials as there are seeds.
        tuning_seeds: Seeds of each trial.
        seeds: Other seeds, at which the best trial of each entry is reported.
        selection: The best trial has the lowest `loss`, or the fewest `steps` to the target.
        verdict: `paired` compares entries seed by seed; `track` holds each to the target by the
            rule of modded-nanogpt's optimization track.
        extensions: How often everyone gets two more trials because somebody's best learning rate
            is at an edge.
        label: A name for each entry, in their order; given once for each.
        schedule: `ENTRY=file.py:function`, a schedule of its own for one entry; may be repeated.
            The function goes from the step and the number of steps to the share of the learning
            rate. By default everyone has that of the race. The report tells whose is another.
        arg: `name=value` for every entry that has such a parameter; may be repeated.
        task_arg: `name=value` for the task, such as `depth=6`; may be repeated.
        out: Folder for records and report; by default one in `runs` that is named after the
            task and a hash of all that is asked and run.
        worker: `2/4`: be the second of four processes that share the race by its folder; `slurm`:
            the one that this task is of a Slurm array. Give all of them the same command.
        ray: Address of a Ray cluster that does the runs; `local` starts one on this machine.
        mesh: Compute each run on several devices, such as `data=2,fsdp=4`: `fsdp` splits parameters
            and states, both share the batch.
        join: Compute each run together with other processes, on a mesh of all their devices:
            `host:1234,2/4` is the second of four, and the address that of the first; `auto` where
            JAX finds them by itself, as on Slurm. Give all of them the same command.
        widths: Instead of a race, look at one entry with models of these widths, such as
            `64,128,256`: a coordinate check and a learning-rate transfer curve. The task needs an
            argument `width`; `--rates`, `--seeds` and `--out` count.
        watch: Look inside the optimizers at 20 points of each reported run, for the report. Records
            stay the same; what it takes is in none of their times. It needs memory for a second
            state of the run.
        plan: Say what the race takes, and run nothing.
    """
    missing = [name for name in PACKAGES if not _is_installed(name)]
    if missing:
        raise UsageError(f"a race needs {', '.join(missing)}: pip install 'gradsmith[race]'")

    if join:
        join_processes(join)
    inside = gradsmith.watch if watch else None
    results = console()
    results.quiet = not is_first()
    try:
        executor = executor_of(worker, ray, os.environ)
        devices = axis_sizes(mesh)
        grid = parse_numbers("rates", rates, float, "0.005,0.02")
        by = search or ("grid" if budget is None else "sobol")
        protocol = Protocol(by, budget, tuned, tuning_seeds, seeds, selection, verdict, extensions)

        def prepared_on(spec: str) -> Prepared:
            made = load_task(spec, task_arg)
            loaded = load_entries(entries, arg, label, made.stacked, schedule, devices)
            with on(mesh_of(devices)):
                loaded = with_routing(loaded, made)
            return prepare(Race(made, loaded, grid, protocol, devices))

        if widths:
            if devices or join:
                raise UsageError(
                    "--widths compares models on one device: leave out --mesh and --join"
                )
            sizes = parse_numbers("widths", widths, int, "64,128,256")
            sized = lambda width: load_task(task, [*task_arg, f"width={width}"])
            loaded = load_entries(entries, arg, label, sized(sizes[0]).stacked, schedule)
            return show_widths(sized, sizes, loaded, grid, seeds, out, results, executor)
        specs = SUITES.get(task, (task,))
        if plan:
            return _plan(specs, prepared_on)
        prepared = [prepared_on(spec) for spec in specs]
        if task in SUITES:
            folder = out or suite_folder(task, prepared)
            return race_suite(prepared, folder, results, inside, executor, _write_report)
        asked, fingerprints = prepared[0].race, prepared[0].fingerprints
        folder = out or default_folder(asked, fingerprints)
        records = run_race(prepared[0], folder, executor=executor, watch=inside)
    except RaceError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"{error}; what is finished is kept") from error
    except KeyboardInterrupt:
        print("stopped; the same command continues the race", file=sys.stderr)
        return INTERRUPTED
    if others_have_runs_left([asked], [records]):
        return 0
    results.print(table(asked, records))
    for note in notes(asked, records):
        results.print(note, highlight=False, markup=False)
    return _write_report(folder)


def _write_report(folder: Path) -> int:
    if not is_first():
        return 0
    try:
        page = write_report(folder)
    except Exception as error:  # whatever goes wrong in drawing: the table stands
        print(
            f"gradsmith: the report was not written, {type(error).__name__}: {error}; the records "
            f"are in {folder}",
            file=sys.stderr,
        )
        return 1
    print("wrote", page, file=sys.stderr)
    return 0


def _plan(specs: Sequence[str], prepared_on: Callable[[str], Prepared]) -> int:
    """Plan task after task, each as soon as it is traced; say meanwhile what takes the time."""
    display = Lines() if is_first() else Display()
    for spec in specs:
        display.remark(f"tracing {spec}")
        one = prepared_on(spec)
        plans = make_plan(one, display)
        if not is_first():
            continue
        extended = one.race.runs_at_most() - sum(plan.runs for plan in plans)
        if len(specs) > 1:
            print(f"{one.race.task.name}:")
        print(in_words(plans, extended))
    return 0


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of the package around it
        return False
