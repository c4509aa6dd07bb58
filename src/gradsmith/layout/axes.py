"""Which axes of a leaf are fan-in, fan-out and stack, and where it is cut into several matrices.

`split` makes stacks of matrices of a leaf, `join` makes the leaf again.

Equinox stores a weight as `(out, in)`, Flax as `(in, out)`, a scanned model as `(layers, in, out)`.
The order of the axes of an array says nothing, so it is never trusted: the axes are declared.
"""

import functools
import itertools
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from jax import lax
from jaxtyping import Array, Shaped

StackShape = tuple[int, int, int]


@dataclass(frozen=True, repr=False)
class MatrixAxes:
    """The axes of a leaf that make its matrices, named as in `jax.nn.initializers`.

    Several axes on one side are flattened in the order given: for a kernel
    `(heads, head_dim, out)`, `in_axis=(0, 1)` makes `fan_in = heads * head_dim`. Lists and NumPy
    integers become tuples and integers.

    A cut makes several matrices of one: each block of `cut_axis` is a matrix of its own. Rules and
    shape scales see the shape of the block. A few leaves and their axes:

    | leaf | shape | axes |
    |---|---|---|
    | dense, Flax | `(in, out)` | `MatrixAxes()` |
    | dense, Equinox and torch | `(out, in)` | `MatrixAxes(1, 0)` |
    | scanned layers, experts | `(layers, experts, in, out)` | `MatrixAxes(batch_axis=(0, 1))` |
    | convolution, Flax | `(kx, ky, in, out)` | `MatrixAxes((0, 1, 2), 3)` |
    | attention, whole | `(d, h, k)` | `MatrixAxes(0, (1, 2))` |
    | attention, per head | `(d, h, k)` | `MatrixAxes(0, 2, batch_axis=1)` |
    | attention, per pair of heads | `(d, h, k)` | `MatrixAxes(0, (1, 2), cut_axis=1, blocks=2)` |
    | the same, heads in one axis | `(d, h * k)` | `MatrixAxes(cut_axis=1, blocks=2 * k)` |
    | fused q, k, v | `(d, 3 * n)` | `MatrixAxes(cut_axis=1, blocks=n)` |
    | fused, of unequal widths | `(d, q + k + v)` | `MatrixAxes(cut_axis=1, blocks=(q, k, v))` |

    Attributes:
        in_axis: The fan-in axis or axes; the rows of the matrix that a rule sees.
        out_axis: The fan-out axis or axes; its columns.
        batch_axis: The axes along which matrices are stacked: layers, experts, heads.
        cut_axis: The fan-in or fan-out axis that is cut into blocks; None for no cut.
        blocks: The size of every block, or the sizes in order, which add up to the axis.

    Raises:
        ValueError: Only one of `cut_axis` and `blocks` is given, or a block has no size.
        TypeError: An axis or a size is no integer.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> fused = jnp.zeros((16, 32))  # 4 query heads, 2 key heads and 2 value heads of 4
        >>> axes = gs.MatrixAxes(cut_axis=1, blocks=(16, 8, 8))
        >>> [stack.shape for stack in axes.split(fused)]
        [(1, 16, 16), (2, 16, 8)]
    """

    in_axis: int | Sequence[int] = -2
    out_axis: int | Sequence[int] = -1
    batch_axis: int | Sequence[int] = ()
    cut_axis: int | None = None
    blocks: int | Sequence[int] | None = None

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                value = _integers(value, field.name)
            if field.name != "blocks" and isinstance(value, tuple) and len(value) == 1:
                (value,) = value  # one axis is an axis; one block is not blocks of one size
            object.__setattr__(self, field.name, value)
        if (self.cut_axis is None) != (self.blocks is None):
            raise ValueError(f"{self} needs both cut_axis and blocks, or neither")
        sizes = (self.blocks,) if isinstance(self.blocks, int) else self.blocks or ()
        if self.blocks is not None and (not sizes or min(sizes) < 1):
            raise ValueError(f"{self} needs blocks of sizes of at least 1")

    def __repr__(self):
        told = [f"{f.name}={getattr(self, f.name)}" for f in fields(self)[2:]]
        default = [f"{f.name}={f.default}" for f in fields(self)[2:]]
        told = [text for text in told if text not in default]
        return f"MatrixAxes({', '.join([str(self.in_axis), str(self.out_axis), *told])})"

    def split(self, leaf: Shaped[Array, "..."]) -> list[Shaped[Array, "_ _ _"]]:
        """Return the matrices of `leaf` in stacks `(stack, fan_in, fan_out)`.

        There is one stack for each run of equal blocks, so one where nothing is cut.
        """
        axis = self._cut(leaf.ndim)
        stacks = []
        for run in self.runs(leaf.shape):
            whole = run.stop - run.start == leaf.shape[axis]
            part = leaf if whole else lax.slice_in_dim(leaf, run.start, run.stop, axis=axis)
            if not run.in_order:
                part = lax.transpose(lax.reshape(part, run.shape), run.order)
            stacks.append(lax.reshape(part, run.stack_shape))
        return stacks

    def join(
        self, stacks: Iterable[Shaped[Array, "_ _ _"]], shape: tuple[int, ...]
    ) -> Shaped[Array, "..."]:
        """Return the leaf of that `shape` whose matrices are `stacks`; the inverse of `split`."""
        axis = self._cut(len(shape))
        parts = []
        for run, stack in zip(self.runs(shape), stacks, strict=True):
            if not run.in_order:
                inverse = sorted(range(len(run.order)), key=run.order.__getitem__)
                ordered = lax.reshape(stack, [run.shape[i] for i in run.order])
                stack = lax.transpose(ordered, inverse)
            whole = (*shape[:axis], run.stop - run.start, *shape[axis + 1 :])
            parts.append(lax.reshape(stack, whole))
        return parts[0] if len(parts) == 1 else lax.concatenate(parts, axis)

    def without_cuts(self) -> "MatrixAxes":
        """Return the same axes without the cut."""
        return replace(self, cut_axis=None, blocks=None)

    def stack_shapes(self, shape: tuple[int, ...]) -> list[StackShape]:
        """Return `(stack, fan_in, fan_out)` of each stack of a leaf of that shape."""
        return [run.stack_shape for run in self.runs(shape)]

    @functools.lru_cache(maxsize=4096)  # noqa: B019  (axes are frozen, few, and plain numbers)
    def runs(self, shape: tuple[int, ...]) -> tuple["Run", ...]:
        """Return the runs of equal blocks of a leaf of that shape; a leaf without a cut is one.

        Raises:
            ValueError: The axes do not name every axis exactly once, a side has no axis, or the
                blocks do not add up to the axis that is cut.
        """
        rank = len(shape)
        batch, rows, columns = self.sides(rank)
        if sorted(batch + rows + columns) != list(range(rank)) or not rows or not columns:
            raise ValueError(
                f"{self} does not fit the shape {shape}: in_axis, out_axis and batch_axis together "
                f"name each of its {rank} axes once, with at least one in and one out"
            )
        cut = self._cut(rank)
        if cut not in rows + columns:
            raise ValueError(
                f"{self} does not fit the shape {shape}: cut_axis is one of in_axis and out_axis"
            )
        moved = lambda axes: tuple(axis + (axis >= cut) for axis in axes)
        order = (*moved(batch), cut, *moved(rows), *moved(columns))
        runs, start = [], 0
        for size, count in self._blocks(shape, cut):
            part = (*shape[:cut], count, size, *shape[cut + 1 :])
            length = lambda axes, part=part: math.prod(part[axis] for axis in moved(axes))
            stack_shape = (length(batch) * count, length(rows), length(columns))
            runs.append(Run(start, start + count * size, part, order, stack_shape))
            start += count * size
        return tuple(runs)

    @property
    def rank(self) -> int:
        """How many axes a leaf has that these axes fit."""
        count = lambda axes: 1 if isinstance(axes, int) else len(axes)
        return count(self.in_axis) + count(self.out_axis) + count(self.batch_axis)

    def sides(self, rank: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Return the stack, fan-in and fan-out axes of a leaf of that rank, counted from 0."""
        sides = (self.batch_axis, self.in_axis, self.out_axis)
        batch, rows, columns = (_counted_from_zero(side, rank) for side in sides)
        return batch, rows, columns

    def _cut(self, rank: int) -> int:
        """Return the axis that is cut; an uncut leaf is one block of its first fan-in axis."""
        _, rows, _ = self.sides(rank)
        axis = rows[0] if self.cut_axis is None else self.cut_axis
        return axis + rank if axis < 0 else axis

    def _blocks(self, shape: tuple[int, ...], cut: int) -> list[tuple[int, int]]:
        """Return size and number of the blocks of each run."""
        length = shape[cut]
        if self.blocks is None:
            return [(length, 1)]
        if isinstance(self.blocks, int):
            runs = [(self.blocks, length // self.blocks)]
        else:
            runs = [(size, len(list(run))) for size, run in itertools.groupby(self.blocks)]
        if sum(size * count for size, count in runs) != length:
            raise ValueError(
                f"{self} does not fit the shape {shape}: blocks of {self.blocks} do not add up to "
                f"the {length} of axis {cut}"
            )
        return runs


class Run(NamedTuple):
    """Consecutive blocks of one size along the axis that is cut: a stack of matrices.

    Attributes:
        start: Where in the axis the first of them begins.
        stop: Where the last one ends.
        shape: The shape of this part of the leaf, with two axes for the one that is cut: how many
            blocks, and their size.
        order: The axes of that shape: stack, blocks, fan-in, fan-out.
        stack_shape: `(stack, fan_in, fan_out)`.
    """

    start: int
    stop: int
    shape: tuple[int, ...]
    order: tuple[int, ...]
    stack_shape: StackShape

    @property
    def in_order(self) -> bool:
        """Whether the axes lie in memory as the stack has them."""
        return self.order == tuple(range(len(self.order)))


def _integers(value: Any, name: str) -> int | tuple[int, ...]:
    """Return one integer, or several, of Python: they can be hashed and printed."""
    try:
        return operator.index(value)
    except TypeError:
        pass
    try:
        return tuple(operator.index(one) for one in value)
    except TypeError:
        raise TypeError(
            f"MatrixAxes takes an integer or several for {name}, got {value!r}"
        ) from None


def _counted_from_zero(axes: int | Sequence[int], rank: int) -> tuple[int, ...]:
    axes = (axes,) if isinstance(axes, int) else axes
    return tuple(axis + rank if axis < 0 else axis for axis in axes)
