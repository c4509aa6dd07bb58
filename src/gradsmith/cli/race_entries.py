"""The entries of a race, from what the command line names."""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path

import optax

import gradsmith

from ..race import Entry, entry
from ..race.entries import RATE_NAMES, rate_parameter
from .loading import UsageError, bind, load


def load_entries(specs: Sequence[str], assignments: Sequence[str]) -> tuple[Entry, ...]:
    """Load what `specs` name; each `name=value` goes to every file's factory that takes it.

    Raises:
        UsageError: Something named is not there, or an assignment has nobody to go to.
        RaceError: Something named makes no optimizer of a learning rate.
    """
    factories = [_load(spec) for spec in specs]
    from_files = [f for spec, f in zip(specs, factories, strict=True) if _is_file(spec)]
    for assignment in assignments:
        if not any(_takes(factory, assignment) for factory in from_files):
            raise UsageError(
                f"--arg {assignment}: no entry from a file has a parameter {_name(assignment)!r}"
            )
    labels = [spec.rpartition(":")[2] for spec in specs]
    return tuple(
        _entry(spec if labels.count(label) > 1 else label, spec, factory, assignments)
        for spec, label, factory in zip(specs, labels, factories, strict=True)
    )


def fingerprint(spec: str) -> dict[str, str]:
    """The hash of the file that `spec` names, so that a race notices when the file changes."""
    if not _is_file(spec):
        return {}
    content = Path(spec.rpartition(":")[0]).read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest()}


def _load(spec: str) -> Callable:
    factory = load(spec, (gradsmith, optax, optax.contrib))
    if not callable(factory):
        raise UsageError(f"{spec} is a {type(factory).__name__}, not a function of a learning rate")
    if not _is_file(spec) and rate_parameter(factory) not in RATE_NAMES:
        raise UsageError(
            f"{spec} has no parameter {' or '.join(RATE_NAMES)}, so that it cannot be raced as it "
            "is: wrap it in a function of a learning rate, file.py:factory"
        )
    return factory


def _entry(label: str, spec: str, factory: Callable, assignments: Sequence[str]) -> Entry:
    origin: dict = {"spec": spec}
    if _is_file(spec):
        own = [assignment for assignment in assignments if _takes(factory, assignment)]
        for assignment in own:
            if _name(assignment) == rate_parameter(factory):
                raise UsageError(f"--arg {assignment}: the race sets that; give --rates instead")
        factory = bind(factory, own, spec)
        origin |= {"arguments": own, **fingerprint(spec)}
    return entry(label, factory, origin)


def _is_file(spec: str) -> bool:
    return ":" in spec


def _takes(factory: Callable, assignment: str) -> bool:
    parameters = inspect.signature(factory).parameters
    return _name(assignment) in parameters or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    )


def _name(assignment: str) -> str:
    return assignment.partition("=")[0]
