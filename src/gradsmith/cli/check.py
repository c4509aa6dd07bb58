"""`gradsmith check`: say what is wrong with an optimizer, and how to mend it."""

import functools
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..xla.simulate import prefer_simulated_devices
from .declared import Declared, declared_in_file, merged
from .json_file import write_json
from .loading import UsageError, assigned, load, require_parameters

Several = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


def check(
    optimizer: Annotated[str | None, tyro.conf.Positional] = None,
    /,
    arg: Several = (),
    params: str | None = None,
    mesh: str = "",
    trait: Several = (),
    claim: Several = (),
    expect: Several = (),
    extra_args: str | None = None,
    tier: Literal["must", "all"] = "all",
    only: Several = (),
    limit: float = 60.0,
    format: Literal["text", "github"] = "text",
    json: Path | None = None,
    watch: bool = False,
    list: bool = False,
    explain: str | None = None,
) -> int:
    """Check an optimizer; exit code 0 when nothing is wrong, 1 when something is, 2 for misuse.

    Args:
        optimizer: `file.py:factory`, or a name such as `optax.adam`. The factory's learning rate
            (`learning_rate`, `lr` or a first parameter without default) is 0.01 if not given. What
            is said of it here may stand in `pyproject.toml`, or in a `Subject`: `file.py:SUBJECT`.
        arg: An argument of the factory, `name=value`; may be repeated.
        params: `file.py:name` of the parameters of your model, or of a function that makes them.
            They are checked abstractly, so the model may have any size. With up to 2 MiB it also
            takes the place of the small tree in the other checks.
        mesh: The axes that they are split over, `fsdp=4,tensor=2`.
        trait: What excuses it from checks, such as `needs_params`; may be repeated.
        claim: A check that it is held to beyond the rest, `name` or `name=value`; may be repeated.
        expect: A check that is known to fail and why, `name=reason`; may be repeated.
        extra_args: `file.py:function` that makes the extra arguments of `update`, a dictionary, of
            `(loss, params, grads)`.
        tier: `all`, or `must` without the advisory checks, whose failures are only remarks.
        only: A check, a group or a phase to run, with what it needs; may be repeated.
        limit: Seconds for one check, after which it is inconclusive.
        format: `github` writes annotations for its pull requests.
        json: Where to write the whole report.
        watch: Check again whenever a Python file beside the optimizer's is saved.
        list: List the checks, and check nothing.
        explain: Print what a check asks, and how one mends what it finds.
    """
    # Before JAX is imported: the checks are about correctness, and some need eight devices.
    prefer_simulated_devices(8)

    from .check_display import explain_check, list_checks

    if list or explain is not None:
        return list_checks() if explain is None else explain_check(explain)
    if optimizer is None:
        raise UsageError("gradsmith check takes an optimizer: file.py:factory, or optax.adam")
    said = _said(arg, params, mesh, trait, claim, expect, extra_args)
    make = functools.partial(subject_from, optimizer, said)
    once = functools.partial(_check_once, optimizer, make, tier, only, limit, format, json)
    if not watch:
        return once()
    from .watch import each_time_it_is_saved

    return each_time_it_is_saved(optimizer, once)


def _said(
    arg: Several,
    params: str | None,
    mesh: str,
    trait: Several,
    claim: Several,
    expect: Several,
    extra_args: str | None,
) -> Declared:
    """The options that were given, in the form that pyproject.toml has them in."""
    pairs = [text.partition("=") for text in expect]
    if any(not reason for _, _, reason in pairs):
        raise UsageError(f"--expect takes check=reason, got {', '.join(expect)}")
    claims = assigned((text if "=" in text else f"{text}=True" for text in claim), "--claim")
    said = {
        "arguments": assigned(arg, "--arg"),
        "traits": [*trait],
        "claims": claims,
        "expected_failures": {name: reason for name, _, reason in pairs},
        "extra_args": extra_args,
        "params": params,
        "mesh": mesh,
    }
    return {key: value for key, value in said.items() if value}


def _check_once(
    optimizer: str, make: Any, tier: Any, only: Any, limit: float, format: str, json: Path | None
) -> int:
    from ..checks.registry import select, with_needs
    from ..checks.supervisor import SubjectUnusable, supervise
    from .check_display import Display
    from .github import annotations

    try:
        checks = with_needs(select(tier, only))
    except ValueError as error:
        raise UsageError(str(error)) from None
    with Display(optimizer, checks) as display:
        try:
            report = supervise(
                make, checks, limit=limit, started=display.started, finished=display.finished
            )
        except SubjectUnusable as error:
            raise UsageError(str(error)) from None
    if format == "github":
        print("\n".join([*annotations(report, optimizer), report.headline]))
    else:
        display.show(report)
    write_json(json, report.to_json())
    if report.ok:
        return 0
    misused = report.no_optimizer or (report.out_of_memory and not report.failures)
    return 2 if misused else 1


def subject_from(spec: str, said: Declared):
    """The subject that a command line names; runs in the process that checks it."""
    import dataclasses

    import optax
    import optax.contrib

    import gradsmith

    from ..checks import Subject
    from ..checks.registry import require_declarable
    from .parameters import abstract, axis_sizes

    said = merged(declared_in_file(spec), said)
    found = load(spec, (gradsmith, optax, optax.contrib))
    if not isinstance(found, Subject):
        if not callable(found):
            raise UsageError(f"{spec} is {found!r}, neither a factory nor a Subject")
        found = Subject(spec.rpartition(":")[2], found)
    if said.get("arguments"):
        require_parameters(found.factory, said["arguments"], spec)
    fields: dict[str, Any] = {
        name: {**getattr(found, name), **said.get(name, {})}
        for name in ("arguments", "claims", "expected_failures")
    }
    fields["traits"] = {*found.traits, *said.get("traits", ())}
    fields["learning_rate"] = said.get("learning_rate", found.learning_rate)
    if "extra_args" in said:
        fields["extra_args"] = load(said["extra_args"])
    if "mesh" in said and "params" not in said:
        raise UsageError("--mesh splits the parameters that --params names: file.py:name")
    if "params" in said:
        fields["model"] = abstract(load(said["params"]), said["params"])
        fields["mesh"] = axis_sizes(said.get("mesh", ""))
    try:
        subject = dataclasses.replace(found, **fields)
        require_declarable(subject)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if subject.missing_arguments:
        missing = ", ".join(subject.missing_arguments)
        raise UsageError(f"{spec} wants {missing}: pass each by --arg name=value")
    return subject
