"""`gradsmith check`: say what is wrong with an optimizer, and how to mend it."""

import functools
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..xla.simulate import prefer_simulated_devices
from .loading import UsageError, bind, load


def check(
    optimizer: Annotated[str, tyro.conf.Positional],
    /,
    arg: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    tier: Literal["must", "all"] = "all",
    only: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    limit: float = 60.0,
    json: Path | None = None,
) -> int:
    """Check an optimizer; exit code 0 when nothing is wrong, 1 when something is, 2 for misuse.

    Args:
        optimizer: `file.py:factory`, or a name such as `optax.adam`. The factory's learning rate
            (`learning_rate`, `lr` or a first parameter without default) is 0.01 if not given.
        arg: An argument of the factory, `name=value`; may be repeated.
        tier: `all`, or `must` without the advisory checks, whose failures are only remarks.
        only: A check, a group or a phase to run, with what it needs; may be repeated.
        limit: Seconds for one check, after which it is inconclusive.
        json: Where to write the whole report.
    """
    # Before JAX is imported: the checks are about correctness, and some need eight devices.
    prefer_simulated_devices(8)

    from ..checks.registry import select, with_needs
    from ..checks.supervisor import SubjectUnusable, supervise
    from .check_display import Display

    try:
        checks = with_needs(select(tier, only))
    except ValueError as error:
        raise UsageError(str(error)) from None
    with Display(optimizer, checks) as display:
        try:
            report = supervise(
                functools.partial(subject_from, optimizer, tuple(arg)),
                checks,
                limit=limit,
                started=display.started,
                finished=display.finished,
            )
        except SubjectUnusable as error:
            raise UsageError(str(error)) from None
    display.show(report)
    if json is not None:
        try:
            json.write_text(report.to_json() + "\n")
        except OSError as error:
            raise UsageError(f"--json {json}: {error.strerror}") from None
    return 0 if report.ok else 1


def subject_from(spec: str, arguments: tuple[str, ...]):
    """The subject that a command line names; runs in the process that checks it."""
    import optax
    import optax.contrib

    import gradsmith

    from ..checks import Subject

    factory = load(spec, (gradsmith, optax, optax.contrib))
    if isinstance(factory, Subject):
        return factory
    if not callable(factory):
        raise UsageError(f"{spec} is {factory!r}, neither a factory nor a Subject")
    return Subject(spec.rpartition(":")[2], bind(factory, arguments, spec))
