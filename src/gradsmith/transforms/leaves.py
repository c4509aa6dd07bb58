"""Leaf by leaf over a tree of updates, where None says that there is nothing to do.

A None has no gradient: the parameter is frozen, or is no array. It stays None, and what is kept
for its parameter stays as it is.
"""

from collections.abc import Callable
from typing import Any

import jax


def map_updates(function: Callable[..., Any], updates: Any, *others: Any) -> Any:
    """Return `function(update, *others)` of every leaf, and None where the update is None."""
    step = lambda update, *rest: None if update is None else function(update, *rest)
    return jax.tree.map(step, updates, *others, is_leaf=lambda node: node is None)


def move_state(function: Callable[[Any, Any], Any], kept: Any, updates: Any) -> Any:
    """Return `function(kept, update)` of every leaf, and `kept` where the update is None."""
    step = lambda update, own: own if update is None else function(own, update)
    return jax.tree.map(step, updates, kept, is_leaf=lambda node: node is None)
