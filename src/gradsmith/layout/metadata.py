"""What a framework writes beside its arrays: names of axes, classes of modules, labels.

Flax NNX keeps axis names in a variable (`out_sharding`), Linen in a box around the array (`names`),
Penzai in the array (`named_axes`); Equinox modules and NNX variables tell by their class, Penzai
parameters by their label. Nothing of Flax, Equinox or Penzai is imported: these attributes say it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax

from .axes import MatrixAxes
from .conventions import RoleName
from .paths import path_name

_BATCH = r".*layers?|.*stages?|.*experts?|exp|repeats?|blocks?"
_HEADS = r".*head.*|kv|projection"  # neighbours of this kind are one side of a matrix
_VOCABULARY = r"vocab.*"


class Metadata(NamedTuple):
    """What is written beside one leaf.

    Attributes:
        axis_names: A name or None for each axis of the leaf; empty where there are none.
        aliases: Other paths that the leaf goes by, such as `'Conv2d/weight'`.
    """

    axis_names: tuple[Any, ...] = ()
    aliases: tuple[str, ...] = ()


def metadata(tree: Any) -> list[Metadata]:
    """Return what is written beside each leaf of `tree`, in order."""
    return [_read(tree, path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def by_axis_names(names: tuple[Any, ...]) -> tuple[RoleName, MatrixAxes | None] | None:
    """Return the role and axes that the names of all axes tell; None if they tell nothing.

    Layers, stages and experts are stacks; heads and what stands beside them are one side; of the
    two sides that remain the first is fan-in, as Flax and Penzai make their weights.
    """
    if not names or not all(isinstance(name, str) for name in names):
        return None
    batch = tuple(i for i, name in enumerate(names) if re.fullmatch(_BATCH, name))
    sides: list[list[int]] = []
    for i, name in enumerate(names):
        heads = re.fullmatch(_HEADS, name)
        if heads and sides and sides[-1][-1] == i - 1 and re.fullmatch(_HEADS, names[i - 1]):
            sides[-1].append(i)
        elif i not in batch:
            sides.append([i])
    if len(sides) < 2:
        return "vector", None
    if len(sides) > 2:
        return None
    rows, columns = map(tuple, sides)
    is_vocabulary = lambda side: any(re.fullmatch(_VOCABULARY, names[i]) for i in side)
    if is_vocabulary(rows):
        return "embedding", None
    if is_vocabulary(columns):
        return "head", None
    return "matrix", MatrixAxes(rows, columns, batch)


def _read(tree: Any, path: tuple, leaf: Any) -> Metadata:
    axis_names, label, kind = (), "", ""
    for node in _nodes(tree, path):
        axis_names = _axis_names(node) or axis_names
        label = getattr(node, "label", None) or label
        if not isinstance(node, Mapping | list | tuple):
            kind = f"{type(node).__name__}/{path_name(path).rpartition('/')[2]}"
    named = axis_names if len(axis_names) == len(leaf.shape) else ()
    alias = label.replace(".", "/") if isinstance(label, str) and label else kind
    return Metadata(named, (alias,) if alias else ())


def _nodes(tree: Any, path: tuple) -> Iterator[Any]:
    """Yield the nodes from the root of `tree` to the one that holds the leaf at `path`."""
    for depth, key in enumerate(path, start=1):
        yield tree
        if depth == len(path):  # below is the leaf; NNX warns of whoever looks at it this way
            return
        if isinstance(key, jax.tree_util.GetAttrKey):
            tree = getattr(tree, key.name)
        elif isinstance(key, jax.tree_util.DictKey):
            tree = tree[key.key]
        elif isinstance(key, jax.tree_util.SequenceKey):
            tree = tree[key.idx]
        else:
            return


def _axis_names(node: Any) -> tuple[Any, ...]:
    """Return the names of axes that a node carries."""
    for attribute in ("named_axes", "names", "out_sharding"):
        names = getattr(node, attribute, None)
        if isinstance(names, tuple | Mapping | jax.sharding.PartitionSpec):
            return tuple(names)
    return ()
