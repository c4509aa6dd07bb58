"""The entries of a race, from what the command line names."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from types import MappingProxyType

import jax
import optax
from jaxtyping import PyTree

import gradsmith

from ..observe.description import how_many
from ..race import Entry, Task, entry
from ..race.entries import RATE_NAMES, rate_parameter
from ..race.mesh import Sizes, param_specs
from ..race.space import RATE, first
from .loading import UsageError, bind, formula_told, guarded_factory, load
from .race_spec import Spec, parse


def load_entries(
    texts: Sequence[str],
    assignments: Sequence[str],
    labels: Sequence[str],
    stacked: Sequence[str] = (),
    schedules: Sequence[str] = (),
    mesh: Sizes = MappingProxyType({}),
) -> tuple[Entry, ...]:
    """Load what `texts` name; each `name=value` goes to every factory with that parameter.

    Factories with a parameter `roles`, as those of gradsmith have, are told of the leaves that the
    task calls `stacked`, and those with a parameter `placement` how parameters lie on the mesh.
    Each `ENTRY=file.py:function` of `schedules` is the schedule of one entry.

    Raises:
        UsageError: Something named is not there, an assignment has nobody to go to or stands
            twice, or there are labels but not as many as entries.
        RaceError: Something named makes no optimizer of a learning rate.
    """
    refuse_twice("--arg", assignments)
    if labels and len(labels) != len(texts):
        raise UsageError(f"{len(labels)} labels for {len(texts)} entries: give one for each")
    specs = [parse(text) for text in texts]
    factories = [_told(_load(spec.target), stacked, mesh) for spec in specs]
    for assignment in assignments:
        if not any(_takes(factory, assignment) for factory in factories):
            raise UsageError(f"--arg {assignment}: no entry has a parameter {_name(assignment)!r}")
    named = zip(labels or _labels(specs), specs, factories, strict=True)
    loaded = [_entry(label, spec, factory, assignments) for label, spec, factory in named]
    own = _schedules(schedules, [entry.name for entry in loaded])
    return tuple(
        dataclasses.replace(one, schedule=own[one.name]) if one.name in own else one
        for one in loaded
    )


def _schedules(texts: Sequence[str], entries: Sequence[str]) -> dict[str, Callable]:
    """The schedule of each entry that has one of its own."""
    found: dict[str, Callable] = {}
    for text in texts:
        name, _, spec = text.rpartition("=")
        if name not in entries or name in found:
            raise UsageError(
                f"--schedule {text}: write ENTRY=file.py:function, once for an entry, where ENTRY "
                f"is {' or '.join(entries)}"
            )
        schedule = load(spec)
        if not callable(schedule):
            raise UsageError(f"{spec} is a {type(schedule).__name__}, not a function of a step")
        found[name] = guarded_factory(schedule)
    return found


def _labels(specs: Sequence[Spec]) -> list[str]:
    """The short name of each entry, as far as it tells it from the others."""
    short = [spec.target.rpartition(":")[2] for spec in specs]
    longer = [
        spec.target if short.count(s) > 1 else s for spec, s in zip(specs, short, strict=True)
    ]
    return [spec.text if longer.count(n) > 1 else n for spec, n in zip(specs, longer, strict=True)]


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
        dataclasses.replace(entry, about=routing(_first(entry), params)) for entry in entries
    )


def _first(entry: Entry) -> optax.GradientTransformation:
    settings = {name: first(part) for name, part in entry.space.items() if name != RATE}
    return entry.build(0.01, **settings)


def routing(tx: optax.GradientTransformation, params: PyTree) -> str:
    """Which leaves go to which part of an optimizer, in one line.

    Examples:
        >>> import jax.numpy as jnp
        >>> params = {"dense": {"kernel": jnp.zeros((64, 256)), "bias": jnp.zeros(256)}}
        >>> print(routing(optax.adam(0.1), params))
        2 leaves to adam
        >>> print(routing(gradsmith.muon(0.1), params))
        1 leaf (vector) to others: adam; 1 leaf (matrix) to matrices: momentum, orthogonalized
    """
    groups: dict[str, list[str]] = {}
    for leaf in gradsmith.describe(tx, params).leaves:
        groups.setdefault(leaf.optimizer, []).append(leaf.role)
    return "; ".join(
        how_many(len(roles), "leaf", "leaves")
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
    return guarded_factory(factory)


def _told(factory: Callable, stacked: Sequence[str], mesh: Sizes) -> Callable:
    asks = inspect.signature(factory).parameters
    if stacked and "roles" in asks:
        stack = gradsmith.MatrixAxes(batch_axis=0)
        factory = functools.partial(factory, roles=dict.fromkeys(stacked, stack))
    if mesh and "placement" in asks:
        placement = gradsmith.Owners(param_specs=param_specs(mesh))
        factory = functools.partial(factory, placement=placement)
    return factory


def _entry(label: str, spec: Spec, factory: Callable, assignments: Sequence[str]) -> Entry:
    rate, given = rate_parameter(factory), [*spec.fixed, *spec.space]
    own = [a for a in assignments if _takes(factory, a) and _name(a) not in given]
    for name in (*map(_name, own), *spec.fixed):
        if name == rate:
            raise UsageError(
                f"{spec.text}: the race sets {name}; give --rates, or a list or a range of it"
            )
    bind(factory, [f"{name}=None" for name in given], spec.target)  # it has all of them
    fixed = functools.partial(bind(factory, own, spec.target), **spec.fixed)
    space = {RATE if name == rate else name: part for name, part in spec.space.items()}
    with formula_told(factory, spec.target):
        return entry(label, fixed, space, {"spec": spec.text, "arguments": own})


def _is_file(spec: str) -> bool:
    return ":" in spec


def _takes(factory: Callable, assignment: str) -> bool:
    parameters = inspect.signature(factory).parameters
    return _name(assignment) in parameters or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    )


def _name(assignment: str) -> str:
    return assignment.partition("=")[0]
