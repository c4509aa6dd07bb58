"""The stacks of leaves, where they live, with one side of their matrices whole on every device.

Along a whole side, slices can be measured and chosen without moving any of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jax.sharding import AbstractMesh, Mesh, PartitionSpec, get_abstract_mesh
from jaxtyping import Array

from ..layout.axes import Run
from ..layout.declare import MatrixLeaf
from .placement import Owners, Placement
from .shards import Split, in_auto_axes, mesh_of, move, sizes_of, spec_of, splits_of


@dataclass(frozen=True)
class OneSide:
    """How some leaves are split, and how their stacks are once one side is whole.

    Attributes:
        mesh: The mesh; None where there is none, or where nobody told how leaves are split.
        leaves: The spec of each leaf.
        stacks: The spec of each stack, those of one leaf after the other.
        placement: Where stacks that are split so are computed.
    """

    mesh: Mesh | AbstractMesh | None
    leaves: Sequence[PartitionSpec]
    stacks: Sequence[PartitionSpec]
    placement: Placement

    def run(self, f: Callable, specs: Sequence[PartitionSpec], *given: Any) -> list[Array]:
        """Return what `f` returns, a list of arrays, split like that."""
        if self.mesh is None:
            return f(*given)
        split = lambda *given: [
            self.move(x, spec) for x, spec in zip(f(*given), specs, strict=True)
        ]
        return in_auto_axes(split, specs, self.mesh)(*given)

    def move(self, x: Array, spec: PartitionSpec) -> Array:
        """Return `x` split like that; for the inside of `run`."""
        if self.mesh is None:
            return x
        inside = get_abstract_mesh()
        return move(x, spec, self.mesh if inside.empty else inside)


def with_one_side(
    placement: Placement, leaves: Sequence[MatrixLeaf], whole: Sequence[int], names: Sequence[str]
) -> OneSide:
    """Plan how stacks are split whose axis `whole`, 1 or 2, is not.

    The mesh axes that split that side split the other one instead, where they divide it. Where a
    side is made of several axes of the leaf, it stays split by the first of them alone.

    Args:
        placement: What the user asked for.
        leaves: The leaves.
        whole: The whole axis of each stack.
        names: The names of the stacks, which the resulting placement knows them by.
    """
    options = placement if isinstance(placement, Owners) else Owners()
    mesh = mesh_of(leaves, options.param_specs)
    splits = [] if mesh is None else splits_of(leaves, mesh, options.param_specs)
    if mesh is None or None in splits:
        bare = Owners(None, options.transfer_dtype) if placement is options else placement
        return OneSide(None, [], [], bare)
    known = [split for split in splits if split is not None]
    runs = [
        (leaf, split, run)
        for leaf, split in zip(leaves, known, strict=True)
        for run in leaf.axes.runs(leaf.array.shape)
    ]
    stacks = [
        spec_of(_of_stack(*one, axis, sizes_of(mesh)))
        for one, axis in zip(runs, whole, strict=True)
    ]
    if placement != "replicated":
        specs = dict(zip(names, stacks, strict=True))
        find = lambda path, array: specs[path]
        placement = Owners(find, options.transfer_dtype)
    return OneSide(mesh, [spec_of(split) for split in known], stacks, placement)


def _of_stack(leaf: MatrixLeaf, split: Split, run: Run, whole: int, sizes: dict[str, int]) -> Split:
    cut = None if leaf.axes.cut_axis is None else leaf.axes.cut_axis % leaf.array.ndim

    def known(side: int, axes: Sequence[int]) -> tuple[str, ...]:
        # A block may lie on several devices; of a cut leaf only the side that is not cut is known.
        if cut is not None and (side == 0 or len(axes) > 1 or cut in axes):
            return ()
        return split[axes[0]] if axes and not any(split[axis] for axis in axes[1:]) else ()

    stack = [known(*one) for one in enumerate(leaf.axes.sides(leaf.array.ndim))]
    other = 3 - whole
    for name in stack[whole]:
        shares = math.prod(sizes[axis] for axis in (*stack[other], name))
        if run.stack_shape[other] % shares == 0:
            stack[other] = (*stack[other], name)
    stack[whole] = ()
    return tuple(stack)
