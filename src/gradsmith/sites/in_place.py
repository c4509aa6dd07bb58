"""Matrices that have no other of their size: left where they are, if a Gram matrix will do.

Owners would compute such a matrix whole on every device at once, and all of it would travel to each
of them and back. A formula that needs only its smaller Gram matrix can do with less where the
matrix is whole along its short side `s`, split along its long side `l` into `P` pieces on `N`
devices. The Gram matrix is a sum over the pieces, one all-reduce; the rest happens in place:

    received      2 s l (1 - 1 / N) numbers at owners,  at most 2 s^2 (1 - 1 / P) here
    flops         4 s^2 l and the formula's at owners,  4 s^2 l / P and the formula's here

That is never more, so nothing is weighed. Not split at all (`P = 1`), it needs no communication.
XLA's partitioner does it: of a product over a split axis it makes partial sums and one all-reduce.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh
from jaxtyping import Array

from ..layout.bucket import Bucket, plan_buckets
from ..layout.declare import MatrixLeaf
from ..layout.gathering import gather, scatter
from ..xla.trace_without_mesh import trace_without_mesh
from .owners import AtOwners
from .shards import Split, in_auto_axes, move, spec_of


@dataclass(frozen=True)
class Divided:
    """A site that leaves every matrix split as it is.

    Attributes:
        mesh: The mesh.
        homes: How each leaf is split.
        buckets: One for each leaf.
    """

    mesh: Mesh | AbstractMesh
    homes: Sequence[Split]
    buckets: Sequence[Bucket]

    def update(
        self,
        step: Callable,
        make: Callable,
        leaves: Sequence[MatrixLeaf],
        params: Sequence[MatrixLeaf] | None,
        state: list[Any],
    ) -> tuple[list[Array], list[Any]]:
        """Return the leaves after `step` on each of them, and the state as it was."""
        del make, params
        specs = [spec_of(home) for home in self.homes]
        kinds = zip(self.buckets, leaves, strict=True)
        stacks = [jax.ShapeDtypeStruct(bucket.shape, own.leaf.dtype) for bucket, own in kinds]
        run, values = trace_without_mesh(
            lambda stacks: step(stacks, None, state, [None] * len(stacks)), stacks
        )

        def there(values, arrays):
            ambient = jax.sharding.get_abstract_mesh()
            mesh = self.mesh if ambient.empty else ambient
            pairs = zip(leaves, arrays, specs, strict=True)
            own = [leaf._replace(leaf=move(x, spec, mesh)) for leaf, x, spec in pairs]
            outs, _ = run(values, gather(self.buckets, own))
            return scatter(self.buckets, outs, own)

        values = [jnp.asarray(value) for value in values]
        # Outside `jit`, numbers that the formula holds would lie on the mesh of Explicit axes.
        divided = jax.jit(in_auto_axes(there, specs, self.mesh))
        return divided(values, [own.leaf for own in leaves]), state


def lone(site: AtOwners, leaves: Sequence[MatrixLeaf]) -> list[int]:
    """Return which leaves are one matrix each, alone of its size and whole along its short side."""
    counts = Counter()
    for own in leaves:
        for k, m, n in own.axes.stack_shapes(own.leaf.shape):
            counts[min(m, n), max(m, n)] += k
    return [
        index
        for index, (own, home) in enumerate(zip(leaves, site.homes, strict=True))
        if (short := _short_axis(own)) is not None
        and counts[min(own.leaf.shape), max(own.leaf.shape)] == 1
        and not home[short]
    ]


def divided(site: AtOwners, leaves: Sequence[MatrixLeaf], which: Sequence[int]) -> Divided:
    """Return the site of those of the leaves of another site."""
    own = [leaves[index] for index in which]
    shapes = [shape for x in own for shape in x.axes.stack_shapes(x.leaf.shape)]
    return Divided(site.mesh, [site.homes[index] for index in which], plan_buckets(shapes))


def _short_axis(own: MatrixLeaf) -> int | None:
    """Return the axis of the short side of a leaf of two axes; None if it is no such leaf."""
    _, rows, columns = own.axes.sides(own.leaf.ndim)
    if own.leaf.ndim != 2 or own.axes.cut_axis is not None or len(rows) != 1 or len(columns) != 1:
        return None
    (row,), (column,) = rows, columns
    return column if own.leaf.shape[row] > own.leaf.shape[column] else row
