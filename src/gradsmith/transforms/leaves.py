"""Leaf by leaf over a tree of updates, where None says that there is nothing to do.

A None has no gradient: the parameter is frozen, or is no array. It stays None, and what is kept
for its parameter stays as it is. Leaves of one shape are traced once.
"""

from collections.abc import Callable
from typing import Any

import jax

from ..layout.paths import is_none
from ..xla.trace_once import trace_once


def map_updates(function: Callable[..., Any], updates: Any, *others: Any) -> Any:
    """Return `function(update, *others)` of every leaf, and None where the update is None."""
    function = trace_once(function)
    step = lambda update, *rest: None if update is None else function(update, *rest)
    return jax.tree.map(step, updates, *others, is_leaf=is_none)


def follow_weights(function: Callable[..., Any], updates: Any, params: Any, kept: Any) -> Any:
    """Return `function(weight, kept)` of what every weight will be; a None leaves it as it is."""

    def move(update, weight, old):
        if weight is None:
            return None
        if update is not None:
            weight = (weight + update.astype(weight.dtype)).astype(weight.dtype)
        return function(weight.astype(old.dtype), old)

    return jax.tree.map(trace_once(move), updates, params, kept, is_leaf=is_none)


def advance(function: Callable[..., tuple], updates: Any, *kept: Any) -> tuple[Any, ...]:
    """Return new updates and what is kept, the trees of `function(update, *kept)` of every leaf.

    Where the update is None, all stay as they are.
    """
    function = trace_once(function)
    leaves, structure = jax.tree.flatten(updates, is_leaf=is_none)
    rows = zip(leaves, *map(structure.flatten_up_to, kept), strict=True)
    new = [row if row[0] is None else function(*row) for row in rows]
    return tuple(structure.unflatten(row[i] for row in new) for i in range(1 + len(kept)))
