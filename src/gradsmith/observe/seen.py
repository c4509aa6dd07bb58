"""What a watched step shows: its leaves, with their axes and what the state has of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from ..layout.axes import MatrixAxes
from ..layout.decision_log import record_decisions
from ..layout.declare import Axes, Declared, UnsettledError, as_matrix, declare
from ..layout.paths import leaves_with_path, longest_suffix, path_name, without_variable
from .readings.step import WatchedLeaf, WatchedStep


class LeafPlan(NamedTuple):
    """What is decided of a leaf; see `WatchedLeaf`."""

    axes: MatrixAxes | None
    by_rule: bool
    group: str | None


Plan = Mapping[str, LeafPlan]
"""By path of the leaf."""


def plan_of(tx: optax.GradientTransformation, axes: Axes, tree: Any) -> Plan:
    """Return what is decided of every leaf: by the user, else by `tx`, else by the names.

    `tx.init` runs abstractly and tells its rules, as for `describe`.

    Raises:
        ValueError: Declared axes do not fit their leaf.
    """
    with record_decisions() as log:
        jax.eval_shape(lambda tree: tx.init(tree), tree)

    def matrix_of(leaf: Declared) -> MatrixAxes | None:
        if len(leaf.array.shape) < 2:
            return None
        if leaf.declaration is None and leaf.path in log.axes:
            return log.axes[leaf.path]
        try:
            return as_matrix(leaf).axes
        except UnsettledError:
            return None

    return {
        leaf.path: LeafPlan(matrix_of(leaf), leaf.path in log.axes, log.groups.get(leaf.path))
        for leaf in declare(axes, tree)
    }


def step_of(
    plan: Plan, number: Int[Array, ""], gradients: Any, updates: Any, params: Any, state: Any
) -> WatchedStep:
    """Return what there is to see of a step.

    Args:
        plan: What is decided of the leaves.
        number: That of the update.
        gradients: What went into the transformation.
        updates: What came out.
        params: The parameters, or None.
        state: The new state.
    """
    given, moved = dict(leaves_with_path(params)), dict(leaves_with_path(updates))
    kept = _mirrors(gradients, state)
    is_watched = lambda x: jnp.issubdtype(x.dtype, jnp.inexact) and x.size > 0
    leaves = [
        WatchedLeaf(
            path, jnp.asarray(x), jnp.asarray(moved[path]), given.get(path), kept[path], *plan[path]
        )
        for path, x in leaves_with_path(gradients)
        if path in moved and is_watched(x)
    ]
    key = jax.random.fold_in(jax.random.key(0), number)
    return WatchedStep(number, tuple(leaves), state, key)


def _mirrors(tree: Any, state: Any) -> dict[str, dict[str, Array]]:
    """Return the arrays of a state that mirror each leaf, by the name of the field above it."""
    leaves = {
        without_variable(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    found: dict[str, dict[str, Array]] = {path_name(path): {} for path in leaves}
    for place, array in jax.tree_util.tree_leaves_with_path(state):
        path = longest_suffix(without_variable(place), leaves)
        if path is None or jnp.shape(array) != leaves[path].shape:
            continue
        if not jnp.issubdtype(array.dtype, jnp.inexact):
            continue
        above = [x.name for x in place[: -len(path) or None] if hasattr(x, "name")]
        own = found[path_name(path)]
        name = above[-1] if above else "state"
        own[name if name not in own else f"{name}_{len(own)}"] = array
    return found
