"""The entries of a race, from what the command line names."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence

import jax
import optax
from jaxtyping import PyTree

import gradsmith

from ..race import Entry, Task, entry
from ..race.entries import RATE_NAMES, rate_parameter
from .loading import UsageError, bind, load


def load_entries(specs: Sequence[str], assignments: Sequence[str]) -> tuple[Entry, ...]:
    """Load what `specs` name; each `name=value` goes to every factory with that parameter.

    Raises:
        UsageError: Something named is not there, or an assignment has nobody to go to, or stands
            twice.
        RaceError: Something named makes no optimizer of a learning rate.
    """
    refuse_twice("--arg", assignments)
    factories = [_load(spec) for spec in specs]
    for assignment in assignments:
        if not any(_takes(factory, assignment) for factory in factories):
            raise UsageError(f"--arg {assignment}: no entry has a parameter {_name(assignment)!r}")
    labels = [spec.rpartition(":")[2] for spec in specs]
    return tuple(
        _entry(spec if labels.count(label) > 1 else label, spec, factory, assignments)
        for spec, label, factory in zip(specs, labels, factories, strict=True)
    )


def refuse_twice(option: str, assignments: Sequence[str]) -> None:
    """Refuse two values for one name: one of them would be lost.

    Raises:
        UsageError: A name is given twice.
    """
    names = [_name(assignment) for assignment in assignments]
    for name in names:
        if names.count(name) > 1:
            given = " ".join(f"{option} {a}" for a in assignments if _name(a) == name)
            raise UsageError(f"{given}: give {name} once")


def with_routing(entries: Sequence[Entry], task: Task) -> tuple[Entry, ...]:
    """The entries, each with a line on which leaves of the task's model go where."""
    params = jax.eval_shape(task.init, jax.random.key(0))
    return tuple(
        dataclasses.replace(entry, about=routing(entry.build(0.01), params)) for entry in entries
    )


def routing(tx: optax.GradientTransformation, params: PyTree) -> str:
    """Which leaves go to which part of an optimizer, in one line.

    Examples:
        >>> import jax.numpy as jnp
        >>> params = {"dense": {"kernel": jnp.zeros((64, 256)), "bias": jnp.zeros(256)}}
        >>> print(routing(optax.adam(0.1), params))
        2 leaves to adam
        >>> print(routing(gradsmith.muon(0.1), params))
        1 leaf (vector) to others: adam; 1 leaf (matrix) to matrices: momentum, rule
    """
    groups: dict[str, list[str]] = {}
    for leaf in gradsmith.describe(tx, params).leaves:
        groups.setdefault(leaf.optimizer, []).append(leaf.role)
    return "; ".join(
        f"{len(roles)} {'leaf' if len(roles) == 1 else 'leaves'}"
        + (f" ({', '.join(dict.fromkeys(roles))})" if any(roles) else "")
        + f" to {optimizer}"
        for optimizer, roles in groups.items()
    )


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
    own = [assignment for assignment in assignments if _takes(factory, assignment)]
    for assignment in own:
        if _name(assignment) == rate_parameter(factory):
            raise UsageError(f"--arg {assignment}: the race sets that; give --rates instead")
    return entry(label, bind(factory, own, spec), {"spec": spec, "arguments": own})


def _is_file(spec: str) -> bool:
    return ":" in spec


def _takes(factory: Callable, assignment: str) -> bool:
    parameters = inspect.signature(factory).parameters
    return _name(assignment) in parameters or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    )


def _name(assignment: str) -> str:
    return assignment.partition("=")[0]
