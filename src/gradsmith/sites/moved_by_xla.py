"""Owners for leaves that do not tell how they are split."""

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh
from jax.typing import DTypeLike
from jaxtyping import Array

from ..layout.axes import MatrixAxes
from ..layout.bucket import Bucket, MatrixShape
from ..layout.declare import MatrixLeaf
from ..layout.gathering import Stack, dtypes, join, split, stack_shapes, transposed
from .exchange import fill
from .owners import AtOwners, at_owners
from .shards import Split, sizes_of
from .site import Make, Run


@dataclass(frozen=True)
class MovedByXla:
    """A site that gathers whole buckets first and leaves it to XLA how they travel to owners.

    Attributes:
        mesh: The mesh, of Auto axes.
        buckets: Which stacks meet.
        transfer_dtype: Not used by what XLA moves.
        path: A leaf that does not tell how it is split.
    """

    mesh: Mesh | AbstractMesh
    buckets: Sequence[Bucket]
    transfer_dtype: DTypeLike | None
    path: str

    def init(self, make: Make, leaves: Sequence[MatrixLeaf]) -> list[Any]:
        """As `Site.init`."""
        gathered = self._gather(leaves)
        return self._owners(leaves, gathered).init(make, gathered)

    def update(
        self,
        run: Run,
        make: Make,
        leaves: Sequence[MatrixLeaf],
        params: Sequence[MatrixLeaf] | None,
        states: list[Any],
    ) -> tuple[list[Array], list[Any]]:
        """As `Site.update`. Warns of what is lost."""
        warnings.warn(
            f"leaf {self.path!r} does not tell how it is split on a mesh of Auto axes, so XLA "
            f"chooses how matrices travel to their owners. That may cost many times the traffic. "
            f"Say it once: placement=gradsmith.Owners(param_specs=...)",
            stacklevel=2,
        )
        gathered = self._gather(leaves)
        gathered_params = None if params is None else self._gather(params)
        owners = self._owners(leaves, gathered)
        outs, states = owners.update(run, make, gathered, gathered_params, states)
        return self._scatter(outs, leaves), states

    def _gather(self, leaves: Sequence[MatrixLeaf]) -> list[MatrixLeaf]:
        """Return each bucket as a leaf of matrices that divide evenly among the devices."""
        stacks = split(leaves, [jnp.asarray(leaf.array) for leaf in leaves])
        devices = math.prod(sizes_of(self.mesh).values())
        gathered = []
        for bucket, dtype in zip(self.buckets, dtypes(self.buckets, leaves), strict=True):
            members = [_as_shape(stacks[i], bucket.matrix_shape) for i in bucket.members]
            stack = jnp.concatenate([stack.astype(dtype) for stack in members])
            even = fill(stack, math.ceil(bucket.count / devices) * devices)
            name = bucket.key(dtype).shape_name
            gathered.append(MatrixLeaf(name, even, MatrixAxes(batch_axis=0)))
        return gathered

    def _scatter(self, gathered: Sequence[Array], leaves: Sequence[MatrixLeaf]) -> list[Array]:
        """Return the leaves that these buckets make; undoes `_gather`."""
        shapes, stacks = stack_shapes(leaves), {}
        for bucket, stack in zip(self.buckets, gathered, strict=True):
            ends = itertools.accumulate(bucket.counts)
            for index, count, end in zip(bucket.members, bucket.counts, ends, strict=True):
                stacks[index] = _as_shape(stack[end - count : end], shapes[index][1:])
        return join(stacks, leaves, [leaf.array.shape for leaf in leaves])

    def _owners(self, leaves: Sequence[MatrixLeaf], gathered: Sequence[MatrixLeaf]) -> AtOwners:
        spread: Split = (tuple(sizes_of(self.mesh)), (), ())
        lengths = [(leaf.array.shape[0], leaf.array.shape[1:]) for leaf in gathered]
        buckets = [Bucket(shape, (i,), (k,)) for i, (k, shape) in enumerate(lengths)]
        splits = [spread] * len(gathered)
        site = at_owners(self.mesh, gathered, splits, buckets, self.transfer_dtype)
        return replace(site, transposed=transposed(self.buckets, leaves))


def _as_shape(stack: Stack, matrix_shape: MatrixShape) -> Stack:
    """Return the stack with matrices of that shape: transposed where they have the other one."""
    return stack if stack.shape[1:] == matrix_shape else stack.mT
