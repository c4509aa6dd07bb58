"""What a formula is called in tables and messages."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import optax

_WRAPPERS = {
    "chain",
    "graft",
    "per_block",
    "stands",
    "stateless",
    "stateless_with_tree_map",
    "with_extra_args_support",
}


def name_of(formula: Any) -> str:
    """Return the name of a function, or of what made a transformation.

    A chain is called by its links. A transformation is two functions that were defined in the
    function that made it, which is whose name is told.

    Examples:
        >>> import optax
        >>> from gradsmith.lift.names import name_of
        >>> print(name_of(optax.chain(optax.trace(0.9), optax.scale(2.0))))
        trace, scale
    """
    if isinstance(formula, optax.GradientTransformation):
        return ", ".join(dict.fromkeys(_makers(formula.update))) or "rule"
    while isinstance(formula, functools.partial):
        formula = formula.func
    return getattr(formula, "__name__", type(formula).__name__).replace("<lambda>", "lambda")


def _makers(function: Callable) -> list[str]:
    """Return the names of the functions in which this one, or those it wraps, were defined."""
    while isinstance(function, functools.partial):
        function = function.func
    maker, inside, _ = getattr(function, "__qualname__", "").partition(".<locals>")
    if inside and maker not in _WRAPPERS:
        return [maker.lstrip("_")]
    held = inspect.getclosurevars(function).nonlocals.values() if inside else ()
    flat = [x for value in held for x in (value if isinstance(value, list | tuple) else [value])]
    return [name for x in flat if callable(x) for name in _makers(x)]
