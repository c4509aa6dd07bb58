"""`gradsmith describe`: who optimizes which leaf, and why."""

import inspect
import sys
from typing import Annotated, Any

import jax
import optax
import tyro
from rich.console import Console

import gradsmith

from ..layout.paths import arrays
from .loading import UsageError, bind, load


def describe(
    optimizer: Annotated[str, tyro.conf.Positional],
    params: Annotated[str, tyro.conf.Positional],
    arg: tuple[str, ...] = (),
    json: bool = False,
) -> int:
    """Show role, axes, bucket, optimizer and state of every leaf of a model.

    Nothing is allocated: the parameters are made abstractly, so any size will do.

    Args:
        optimizer: A name such as `muon`, or `file.py:name` of a transformation or a factory of one.
        params: `file.py:name` of the parameters, or of a function that makes them.
        arg: `name=value` for the factory.
        json: Print JSON instead of the table.
    """
    tree = abstract(load(params), params)
    try:
        description = gradsmith.describe(transformation(optimizer, arg), tree)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{optimizer} cannot be initialised with {params}: {error}") from error
    if json:
        print(description.to_json())
    elif sys.stdout.isatty():
        Console().print(description)
    else:
        print(description)
    return 0


def abstract(found: Any, spec: str) -> Any:
    """Return the shapes of the parameters that the user names, a tree or what makes one."""
    make = found if callable(found) and not jax.tree.leaves(arrays(found)) else lambda: found
    try:
        tree = jax.eval_shape(lambda: arrays(make()))
    except Exception as error:
        raise UsageError(f"calling {spec} failed: {type(error).__name__}: {error}") from error
    if not jax.tree.leaves(tree):
        raise UsageError(f"{spec} has no arrays: name a tree of parameters, or a function of none")
    return tree


def transformation(spec: str, assignments: tuple[str, ...]) -> optax.GradientTransformation:
    """Return the transformation that the user names, or that the factory makes which they name."""
    found: Any = load(spec, (gradsmith, optax, optax.contrib))
    if not isinstance(found, optax.GradientTransformation) and callable(found):
        factory = bind(found, assignments, spec)
        needed = [p for p in inspect.signature(factory).parameters.values() if p.default is p.empty]
        rates = [1.0] if needed else []  # states do not depend on the learning rate
        found = factory(*rates)
    if not isinstance(found, optax.GradientTransformation):
        raise UsageError(f"{spec} is {type(found).__name__}, not an optax.GradientTransformation")
    return found
