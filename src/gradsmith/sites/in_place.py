"""Matrices that have no other of their size: they stay where they are, if a Gram matrix is enough.

At owners, every device would get the whole matrix, compute the same, and send it back. Some
formulas need only the smaller Gram matrix. Let the matrix be whole along its short side `s`, and
split along its long side `l` into `P` pieces, on `N` devices. Then the Gram matrix is a sum over
the pieces, which is one all-reduce. The rest happens in place:

    received      2 s l (1 - 1 / N) numbers at owners,  at most 2 s^2 (1 - 1 / P) here
    flops         4 s^2 l and the formula's at owners,  4 s^2 l / P and the formula's here

Both are never more here, so there is nothing to decide. A matrix that is not split (`P = 1`) needs
no communication. XLA does the work: it makes partial sums and one all-reduce of a product over a
split axis.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, PartitionSpec
from jaxtyping import Array

from ..layout.bucket import Bucket
from ..layout.declare import MatrixLeaf
from ..layout.gathering import join, split
from ..xla.trace_without_mesh import trace_without_mesh
from .shards import Split, in_auto_axes, move, spec_of
from .site import Make, Members, Run


@dataclass(frozen=True)
class InPlace:
    """A site that leaves every matrix split as it is. The state is the same on all devices.

    Attributes:
        mesh: The mesh.
        splits: How each leaf is split.
        buckets: One for each leaf.
    """

    mesh: Mesh | AbstractMesh
    splits: Sequence[Split]
    buckets: Sequence[Bucket]

    def init(self, make: Make, leaves: Sequence[MatrixLeaf]) -> list[Any]:
        """As `Site.init`."""
        return make([Members([stack]) for stack in _shapes(leaves)])

    def update(
        self,
        run: Run,
        make: Make,
        leaves: Sequence[MatrixLeaf],
        params: Sequence[MatrixLeaf] | None,
        states: list[Any],
    ) -> tuple[list[Array], list[Any]]:
        """As `Site.update`."""
        del make, params
        kept, structure = jax.tree.flatten(states)
        specs = [spec_of(split) for split in self.splits]

        def step(stacks, states):
            outs, states = run([Members([x]) for x in stacks], None, states)
            return [out for (out,) in outs], states

        traced, values = trace_without_mesh(step, _shapes(leaves), states)

        def there(values, arrays, kept):
            ambient = jax.sharding.get_abstract_mesh()
            mesh = self.mesh if ambient.empty else ambient
            moved = [move(x, spec, mesh) for x, spec in zip(arrays, specs, strict=True)]
            outs, states = traced(values, split(leaves, moved), jax.tree.unflatten(structure, kept))
            shapes = [leaf.array.shape for leaf in leaves]
            return [*join(dict(enumerate(outs)), leaves, shapes), *jax.tree.leaves(states)]

        everywhere = [PartitionSpec(*[None] * jnp.ndim(x)) for x in kept]
        # Outside `jit`, numbers that the formula holds would lie on the mesh of Explicit axes.
        there = jax.jit(in_auto_axes(there, [*specs, *everywhere], self.mesh))
        done = there([jnp.asarray(x) for x in values], [leaf.array for leaf in leaves], kept)
        return done[: len(leaves)], jax.tree.unflatten(structure, done[len(leaves) :])


def unique_leaves(leaves: Sequence[MatrixLeaf], splits: Sequence[Split]) -> list[int]:
    """Return which leaves are one matrix each, alone of its size and whole along its short side."""
    counts = Counter()
    for leaf in leaves:
        for k, m, n in leaf.axes.stack_shapes(leaf.array.shape):
            counts[min(m, n), max(m, n)] += k
    return [
        index
        for index, (leaf, split) in enumerate(zip(leaves, splits, strict=True))
        if (short := _short_axis(leaf)) is not None
        and counts[min(leaf.array.shape), max(leaf.array.shape)] == 1
        and not split[short]
    ]


def _shapes(leaves: Sequence[MatrixLeaf]) -> list[jax.ShapeDtypeStruct]:
    """Return the shapes of the stacks: one of each leaf."""
    shapes = [(leaf.axes.stack_shapes(leaf.array.shape), leaf.array.dtype) for leaf in leaves]
    return [jax.ShapeDtypeStruct(shape, dtype) for (shape,), dtype in shapes]


def _short_axis(leaf: MatrixLeaf) -> int | None:
    """Return the axis of the short side of a leaf of two axes; None if it is no such leaf."""
    _, rows, columns = leaf.axes.sides(leaf.array.ndim)
    if (
        leaf.array.ndim != 2
        or leaf.axes.cut_axis is not None
        or len(rows) != 1
        or len(columns) != 1
    ):
        return None
    (row,), (column,) = rows, columns
    return column if leaf.array.shape[row] > leaf.array.shape[column] else row
