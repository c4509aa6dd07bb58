"""Which leaf has which axes: what the user declares, or else what the names say."""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

from .axes import MatrixAxes
from .conventions import Layout, layout_by_name
from .paths import leaves_with_path, masked_paths

Axes = None | MatrixAxes | Callable[[str, Any], MatrixAxes | None] | Any
"""What `axes=` takes: None (what the names say, and leaves of rank 2 as `(in, out)`), one
`MatrixAxes` for every leaf, a function `(path, leaf) -> MatrixAxes | None` of paths such as
`'blocks/0/kernel'`, or a tree of `MatrixAxes` that is a prefix of the parameters; a flat dict by
path, `{'blocks/kernel': ...}`, is one too. Where it gives None, the default holds."""


class MatrixLeaf(NamedTuple):
    """A leaf that is a matrix or several of them, where it is, and its axes."""

    path: str
    leaf: Any
    axes: MatrixAxes


class Declared(NamedTuple):
    """A leaf, where it is, the axes that the user declares, and the layout that its names tell."""

    path: str
    leaf: Any
    axes: MatrixAxes | None
    layout: Layout | None


@dataclass(frozen=True)
class FirstOf:
    """Axes from a function, and where that gives None from another form of axes."""

    first: Callable[[str, Any], MatrixAxes | None]
    otherwise: Axes


@dataclass(frozen=True)
class WithoutCuts:
    """Another form of axes without its cuts."""

    axes: Axes


def without_cuts(axes: Axes) -> Axes:
    """Return the same axes without their cuts: for what shall see a whole leaf.

    A shape scale stands beside the formula in one `per_stack` and sees the shape of a block. Where
    a paper scales by the shape of the leaf instead, give the scale a `per_stack` of its own.

    Args:
        axes: Any form of axes.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> axes = gs.MatrixAxes(cut_axis=1, blocks=4)
        >>> by_block = gs.per_stack(gs.match_rms(1.0), axes=axes)
        >>> by_leaf = gs.per_stack(gs.match_rms(1.0), axes=gs.without_cuts(axes))
        >>> kernel = jnp.ones((4, 16))
        >>> for scale in (by_block, by_leaf):
        ...     print(scale.update(kernel, scale.init(kernel))[0].max())
        2.0
        4.0
    """
    return WithoutCuts(axes)


def declare(axes: Axes, tree: Any) -> list[Declared]:
    """Return the leaves of `tree` in order, each with what is declared and what its names tell.

    Raises:
        ValueError: There is a declaration for a path that the tree lacks.
    """
    leaves = leaves_with_path(tree)
    find = _lookup(axes, [path for path, _ in leaves] + masked_paths(tree))
    shapes = {path: tuple(leaf.shape) for path, leaf in leaves}
    return [
        Declared(path, leaf, find(path, leaf), layout_by_name(path, shapes))
        for path, leaf in leaves
    ]


def matrix_leaves(axes: Axes, tree: Any) -> list[MatrixLeaf]:
    """Like `declare`, where every leaf must be a matrix or several of them.

    Raises:
        ValueError: Also for a leaf that `as_matrix` refuses.
    """
    return [as_matrix(leaf) for leaf in declare(axes, tree)]


def as_matrix(declared: Declared) -> MatrixLeaf:
    """Refuse a leaf of rank 0 or 1, one whose axes nobody knows, and axes that do not fit it."""
    path, leaf, axes, layout = declared
    shape = tuple(leaf.shape)
    if len(shape) < 2:
        raise ValueError(
            f"leaf {path!r} has shape {shape}, which is no matrix. Give it to another optimizer: "
            f"gradsmith.partition_by_role(matrices=..., others=optax.adamw(...))"
        )
    axes = axes or (layout.axes if layout else None)
    if axes is None:
        raise ValueError(_undeclared(path, shape, layout))
    try:
        axes.runs(shape)
    except ValueError as error:
        raise ValueError(f"leaf {path!r}: {error}") from None
    return MatrixLeaf(path, leaf, axes)


def _undeclared(path: str, shape: tuple[int, ...], layout: Layout | None) -> str:
    """Say what nobody told of the leaf, and the line that tells it."""
    transposed = re.fullmatch(r"(.*_)?weight(_.*)?", path.rpartition("/")[2]) is not None
    stack = tuple(range(len(shape) - 2))
    guess = MatrixAxes(
        *((-1, -2) if transposed else (-2, -1)), stack[0] if len(stack) == 1 else stack
    )
    if layout is None:
        order = "(out, in)" if transposed else "(in, out)"
        heads = (
            "; for attention (d, heads, k): MatrixAxes(0, (1, 2)), or every head by itself: "
            "MatrixAxes(0, 2, batch_axis=1)"
            if len(shape) == 3
            else ""
        )
        return (
            f"leaf {path!r} has shape {shape}, and nothing says which of its axes are fan-in, "
            f"fan-out and stack. Declare them wherever `axes=` is taken, in partition_by_role and "
            f"in per_matrix or per_stack. For stacked {order} matrices: "
            f"axes={{{path!r}: {guess}}}{heads}"
        )
    out = guess.sides(len(shape))[2][0]
    guess = replace(guess, cut_axis=out, blocks=max(1, shape[out] // layout.parts))
    return (
        f"leaf {path!r} has shape {shape} and the name of several matrices fused in one, which "
        f"would be mixed. Say where it is cut, by the size of each block or by their sizes in "
        f"order; for {layout.parts} equal blocks: axes={{{path!r}: {guess}}}"
    )


def _lookup(axes: Axes, paths: list[str]) -> Callable[[str, Any], MatrixAxes | None]:
    """Turn any form of `axes=` into a function of path and leaf."""
    if axes is None or isinstance(axes, MatrixAxes):
        return lambda path, leaf: axes
    if isinstance(axes, FirstOf):
        otherwise = _lookup(axes.otherwise, paths)
        return lambda path, leaf: axes.first(path, leaf) or otherwise(path, leaf)
    if isinstance(axes, WithoutCuts):
        cut = _lookup(axes.axes, paths)
        return lambda path, leaf: (found := cut(path, leaf)) and found.without_cuts()
    if callable(axes):
        return cast(Callable[[str, Any], MatrixAxes | None], axes)
    prefixes = dict(leaves_with_path(axes))
    known = {prefix for path in paths for prefix in itertools.accumulate(path.split("/"), _join)}
    for prefix, found in prefixes.items():
        if not isinstance(found, MatrixAxes):
            raise TypeError(f"axes at {prefix!r} is {found!r}; it must be a MatrixAxes or None")
        # A tree without leaves says nothing of paths: `optax.tree.map_params` calls init with one.
        if paths and prefix not in known:
            raise ValueError(
                f"axes are declared for {prefix!r}, where the parameters have no leaf; "
                f"they have {', '.join(paths[:8])}{' ...' if len(paths) > 8 else ''}"
            )

    def find(path: str, leaf: Any) -> MatrixAxes | None:
        del leaf
        while path not in prefixes and path:
            path = path.rpartition("/")[0]
        return prefixes.get(path)

    return find


def _join(path: str, name: str) -> str:
    return f"{path}/{name}"
