"""Which axes of a leaf are fan-in, fan-out and stack.

`split` makes a stack of matrices of a leaf, `join` makes the leaf again.

Equinox stores a weight as `(out, in)`, Flax as `(in, out)`, a scanned model as `(layers, in, out)`.
The order of the axes of an array says nothing, so it is never trusted: the axes are declared.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax.numpy as jnp
from jaxtyping import Array, Shaped

from .paths import leaves_with_path, masked_paths


@dataclass(frozen=True)
class MatrixAxes:
    """The axes of a leaf that make its matrices, named as in `jax.nn.initializers`.

    Several axes on one side are flattened in the order given: `in_axis=(0, 1)` of a kernel
    `(heads, head_dim, out)` makes `fan_in = heads * head_dim`.

    Attributes:
        in_axis: The fan-in axis or axes; the rows of the matrix that a rule sees.
        out_axis: The fan-out axis or axes; its columns.
        batch_axis: The axes along which matrices are stacked: layers, experts, heads.
    """

    in_axis: int | tuple[int, ...] = -2
    out_axis: int | tuple[int, ...] = -1
    batch_axis: int | tuple[int, ...] = ()

    def split(self, leaf: Shaped[Array, "..."]) -> Shaped[Array, "k m n"]:
        """Return the matrices of `leaf`, stacked: `(stack, fan_in, fan_out)`."""
        order = self.order(leaf.shape)
        return jnp.reshape(jnp.transpose(leaf, order), self.stack_shape(leaf.shape))

    def join(self, stack: Shaped[Array, "k m n"], shape: tuple[int, ...]) -> Shaped[Array, "..."]:
        """Return the leaf of that `shape` whose matrices are `stack`; the inverse of `split`."""
        order = self.order(shape)
        inverse = sorted(range(len(order)), key=order.__getitem__)
        return jnp.transpose(jnp.reshape(stack, [shape[axis] for axis in order]), inverse)

    def stack_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return `(stack, fan_in, fan_out)` of a leaf of that shape."""
        batch, rows, columns = self.sides(len(shape))
        size = lambda axes: math.prod(shape[axis] for axis in axes)
        return size(batch), size(rows), size(columns)

    def order(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return all axes of a leaf of that shape: stack first, then fan-in, then fan-out.

        Raises:
            ValueError: The three do not name every axis exactly once, or a side has no axis.
        """
        batch, rows, columns = self.sides(len(shape))
        order = batch + rows + columns
        if sorted(order) != list(range(len(shape))) or not rows or not columns:
            raise ValueError(
                f"{self} does not fit the shape {shape}: in_axis, out_axis and batch_axis together "
                f"name each of its {len(shape)} axes once, with at least one in and one out"
            )
        return order

    def sides(self, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Return the stack, fan-in and fan-out axes of a leaf of that rank, counted from 0."""

        def resolve(axes: int | tuple[int, ...]) -> tuple[int, ...]:
            axes = (axes,) if isinstance(axes, int) else tuple(axes)
            return tuple(axis + rank if axis < 0 else axis for axis in axes)

        return resolve(self.batch_axis), resolve(self.in_axis), resolve(self.out_axis)


Axes = None | MatrixAxes | Callable[[str, Any], MatrixAxes | None] | Any
"""What `axes=` takes: None (leaves of rank 2, as `(in, out)`), one `MatrixAxes` for every leaf, a
function `(path, leaf) -> MatrixAxes | None` of paths such as `'blocks/0/kernel'`, or a tree of
`MatrixAxes` that is a prefix of the parameters. Where it gives None, the default holds."""


class MatrixLeaf(NamedTuple):
    """A leaf that is a matrix or a stack of them, where it is, and its axes."""

    path: str
    leaf: Any
    axes: MatrixAxes


class Declared(NamedTuple):
    """A leaf, where it is, and its axes; None where nothing says what they are."""

    path: str
    leaf: Any
    axes: MatrixAxes | None


def declare(axes: Axes, tree: Any) -> list[Declared]:
    """Return the leaves of `tree` in order, each with the axes that `axes` declares for it.

    Raises:
        ValueError: There is a declaration for a path that the tree lacks.
    """
    leaves = leaves_with_path(tree)
    find = _lookup(axes, [path for path, _ in leaves] + masked_paths(tree))
    default = lambda leaf: MatrixAxes() if len(leaf.shape) == 2 else None
    return [Declared(path, leaf, find(path, leaf) or default(leaf)) for path, leaf in leaves]


def matrix_leaves(axes: Axes, tree: Any) -> list[MatrixLeaf]:
    """Like `declare`, where every leaf must be a matrix or a declared stack of matrices.

    Raises:
        ValueError: Also for a leaf that `as_matrix` refuses.
    """
    return [as_matrix(leaf) for leaf in declare(axes, tree)]


def as_matrix(declared: Declared) -> MatrixLeaf:
    """Refuse a leaf of rank 0 or 1, one whose axes nobody declared, and axes that do not fit it."""
    path, leaf, axes = declared
    shape = tuple(leaf.shape)
    if len(shape) < 2:
        raise ValueError(
            f"leaf {path!r} has shape {shape}, which is no matrix. Give it to another optimizer: "
            f"gradsmith.partition_by_role(matrices=..., others=optax.adamw(...))"
        )
    if axes is None:
        stacked = tuple(range(len(shape) - 2))
        raise ValueError(
            f"leaf {path!r} has shape {shape}, and nothing says which of its axes are fan-in, "
            f"fan-out and stack. Declare them; for stacked (in, out) matrices: axes=lambda path, "
            f"leaf: MatrixAxes(-2, -1, batch_axis={stacked[0] if len(stacked) == 1 else stacked}) "
            f"if path == {path!r} else None"
        )
    try:
        axes.order(shape)
    except ValueError as error:
        raise ValueError(f"leaf {path!r}: {error}") from None
    return MatrixLeaf(path, leaf, axes)


def _lookup(axes: Axes, paths: list[str]) -> Callable[[str, Any], MatrixAxes | None]:
    """Turn any form of `axes=` into a function of path and leaf."""
    if axes is None or isinstance(axes, MatrixAxes):
        return lambda path, leaf: axes
    if callable(axes):
        return cast(Callable[[str, Any], MatrixAxes | None], axes)
    # A tree without leaves says nothing about paths: `optax.tree.map_params` calls init with one.
    prefixes = dict(leaves_with_path(axes))
    for prefix, found in prefixes.items():
        if not isinstance(found, MatrixAxes):
            raise TypeError(f"axes at {prefix!r} is {found!r}; it must be a MatrixAxes or None")
        if paths and not any(path == prefix or path.startswith(f"{prefix}/") for path in paths):
            raise ValueError(
                f"axes are declared for {prefix!r}, where the parameters have no leaf; "
                f"they have {', '.join(paths[:8])}{' ...' if len(paths) > 8 else ''}"
            )

    def find(path: str, leaf: Any) -> MatrixAxes | None:
        del leaf
        parts = path.split("/")
        for length in range(len(parts), 0, -1):
            if (found := prefixes.get("/".join(parts[:length]))) is not None:
                return found
        return None

    return find
