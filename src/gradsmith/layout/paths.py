"""Leaves of a tree by path, written as people say it: `blocks/0/kernel`."""

import itertools
from typing import Any

import jax
import optax


def path_name(path: tuple) -> str:
    """Return a key path of `jax.tree_util` as a string of keys with slashes between them.

    Variables of Flax hold their array in an attribute `value`, which is no part of the name:
    `nnx.Optimizer` initialises with variables and updates with bare arrays.
    """
    while path and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator="/")


def leaves_with_path(tree: Any) -> list[tuple[str, Any]]:
    """Return `(path, leaf)` of every leaf; None and `optax.MaskedNode` are no leaves."""
    return [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def masked_paths(tree: Any) -> list[str]:
    """Return the paths at which `tree` has None or an `optax.MaskedNode` instead of a leaf."""
    is_masked = lambda node: node is None or isinstance(node, optax.MaskedNode)
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_masked)
    return [path_name(path) for path, leaf in leaves if is_masked(leaf)]


def arrays(tree: Any) -> Any:
    """Return `tree` with None for whatever is no array: an Equinox module holds functions."""
    return jax.tree.map(lambda leaf: leaf if hasattr(leaf, "shape") else None, tree)


def prefixes(path: str) -> list[str]:
    """Return `path` and all nodes above it but the root.

    Examples:
        >>> prefixes("blocks/0/kernel")
        ['blocks', 'blocks/0', 'blocks/0/kernel']
    """
    return list(itertools.accumulate(path.split("/"), lambda above, name: f"{above}/{name}"))
