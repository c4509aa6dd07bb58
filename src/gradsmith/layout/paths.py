"""Leaves of a tree by path, written as people say it: `blocks/0/kernel`."""

import functools
import itertools
from collections.abc import Collection, Iterable
from typing import Any

import jax
import optax


@functools.lru_cache(maxsize=2**16)  # one update asks for the paths of a model several times
def path_name(path: tuple) -> str:
    """Return a key path of `jax.tree_util` as a string of keys with slashes between them."""
    return jax.tree_util.keystr(without_variable(path), simple=True, separator="/")


def without_variable(path: tuple) -> tuple:
    """Return a key path without the attribute `value` in which variables of Flax hold their array.

    It is no part of the name: `nnx.Optimizer` initialises with variables and updates with bare
    arrays.
    """
    while path and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return path


def leaves_with_path(tree: Any) -> list[tuple[str, Any]]:
    """Return `(path, leaf)` of every leaf; None and `optax.MaskedNode` are no leaves."""
    return [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def masked_paths(tree: Any) -> list[str]:
    """Return the paths at which `tree` has None or an `optax.MaskedNode` instead of a leaf."""
    is_masked = lambda node: node is None or isinstance(node, optax.MaskedNode)
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_masked)
    return [path_name(path) for path, leaf in leaves if is_masked(leaf)]


def all_paths(tree: Any) -> list[str]:
    """Return the paths of all leaves, and of what stands in place of one."""
    return [path for path, _ in leaves_with_path(tree)] + masked_paths(tree)


def is_none(node: Any) -> bool:
    """Whether a node is None: as `is_leaf`, it lets `jax.tree.map` see what has no gradient."""
    return node is None


def arrays(tree: Any) -> Any:
    """Return `tree` with None for what is no array: an Equinox module holds functions."""
    return jax.tree.map(lambda leaf: leaf if hasattr(leaf, "shape") else None, tree)


def prefixes(path: str) -> list[str]:
    """Return `path` and all nodes above it but the root.

    Examples:
        >>> prefixes("blocks/0/kernel")
        ['blocks', 'blocks/0', 'blocks/0/kernel']
    """
    return list(itertools.accumulate(path.split("/"), lambda above, name: f"{above}/{name}"))


def unknown_paths(paths: Iterable[str], known: Collection[str]) -> list[str]:
    """Return those paths that are neither one of the `known` nor lead to one.

    Examples:
        >>> from gradsmith.layout.paths import unknown_paths
        >>> unknown_paths(["blocks", "block", "blocks/0"], ["blocks/0/kernel"])
        ['block']
    """
    leading = {"", *(prefix for path in known for prefix in prefixes(path))}
    return [path for path in paths if path not in leading]


def longest_prefix(path: str, table: Collection[str]) -> str | None:
    """Return the longest key of `table` that is `path` or a node above it; None if none is.

    The empty string is the root, which is above every leaf.

    Examples:
        >>> longest_prefix("blocks/0/kernel", {"blocks": 1, "blocks/0": 2, "block": 3})
        'blocks/0'
    """
    while path not in table:
        if not path:
            return None
        path = path.rpartition("/")[0]
    return path


def longest_suffix(path: tuple, table: Collection[tuple]) -> tuple | None:
    """Return the longest key of `table` that `path` ends with; None if it ends with none.

    An array in the state of an optimizer belongs to the parameter whose key path its own ends with:
    `state.mu["dense"]["kernel"]` to `params["dense"]["kernel"]`.

    Examples:
        >>> longest_suffix(("mu", "dense", "kernel"), {("dense", "kernel"), ("kernel",)})
        ('dense', 'kernel')
    """
    endings = (path[start:] for start in range(len(path) + 1))
    return next((ending for ending in endings if ending in table), None)
