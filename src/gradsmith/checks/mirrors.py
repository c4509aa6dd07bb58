"""Which parts of a state belong to the parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

PyTree = Any


def param_leaves(tx: Any, state: PyTree) -> set[int]:
    """The ids of the leaves of `state` that `optax.tree.map_params` takes for parameters'."""
    visited: set[int] = set()

    def visit(leaf: Any) -> Any:
        visited.add(id(leaf))
        return leaf

    optax.tree.map_params(tx, visit, state)
    return visited


def mirrors(state: PyTree, params: PyTree) -> list[tuple[tuple, PyTree]]:
    """The parts of `state` with the tree and the shapes of the parameters, and where they are."""
    wanted = jax.tree.structure(params)
    shapes = [jnp.shape(p) for p in jax.tree.leaves(params)]

    def like_params(tree: Any) -> bool:
        leaves, structure = jax.tree.flatten(tree)
        return structure == wanted and [jnp.shape(x) for x in leaves] == shapes

    parts = jax.tree_util.tree_leaves_with_path(state, is_leaf=like_params)
    return [(path, part) for path, part in parts if like_params(part)]
