"""All matrices that a device sees, computed by that device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array

from ..layout.bucket import Bucket
from ..layout.declare import MatrixLeaf
from ..layout.gathering import join, split
from ..xla.varying import vary_like
from .shards import explicit_spec
from .site import Make, Members, Run


@dataclass(frozen=True)
class Here:
    """A site where every device computes all matrices that it sees; without a mesh, all there are.

    On a mesh of Explicit axes, where a reshape or a product of split axes is refused, leaves are
    first brought whole to all devices. On a mesh of Auto axes XLA moves what it must.

    Attributes:
        buckets: Which stacks meet. None is transposed here.
    """

    buckets: Sequence[Bucket]

    def init(self, make: Make, leaves: Sequence[MatrixLeaf]) -> list[Any]:
        """As `Site.init`."""
        return make(self._members(leaves))

    def update(
        self,
        run: Run,
        make: Make,
        leaves: Sequence[MatrixLeaf],
        params: Sequence[MatrixLeaf] | None,
        states: list[Any],
    ) -> tuple[list[Array], list[Any]]:
        """As `Site.update`."""
        del make
        members = self._members(leaves)
        states = vary_like(states, members)
        outs, states = run(members, None if params is None else self._members(params), states)
        stacks = {
            index: out
            for bucket, some in zip(self.buckets, outs, strict=True)
            for index, out in zip(bucket.members, some, strict=True)
        }
        joined = join(stacks, leaves, [leaf.array.shape for leaf in leaves])
        return back(joined, leaves), states

    def _members(self, leaves: Sequence[MatrixLeaf]) -> list[Members]:
        stacks = split(leaves, [_whole(leaf.array) for leaf in leaves])
        return [Members([stacks[index] for index in bucket.members]) for bucket in self.buckets]


def _whole(leaf: Array | np.ndarray) -> Array:
    """Return the leaf on all devices of the Explicit mesh it lives on, if it lives on one."""
    if explicit_spec(leaf) is None:
        return jnp.asarray(leaf)
    return jax.sharding.reshard(leaf, PartitionSpec())


def back(arrays: Sequence[Array], leaves: Sequence[MatrixLeaf]) -> list[Array]:
    """Return each array where its leaf is, on the Explicit mesh it lives on."""
    specs = [explicit_spec(leaf.array) for leaf in leaves]
    return [
        array if spec is None else jax.sharding.reshard(array, spec)
        for array, spec in zip(arrays, specs, strict=True)
    ]
