"""All matrices of one shape in one array: `gather` them, compute once, `scatter` them back.

Two hundred small products in a row cost two hundred dispatches and two hundred compiled bodies;
one batched product costs one. The plan is made from shapes alone, so today's gradients may have
another dtype than the parameters without anything being compiled or allocated anew.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Shaped

from .axes import StackShape


@dataclass(frozen=True)
class Bucket:
    """The stacks whose matrices have one shape.

    Attributes:
        matrix_shape: `(m, n)`.
        members: The indices of the stacks, in the order of the tree.
        counts: How many matrices each of them has.
    """

    matrix_shape: tuple[int, int]
    members: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def shape(self) -> StackShape:
        """`(k, m, n)` of the gathered array."""
        return (sum(self.counts), *self.matrix_shape)

    @property
    def name(self) -> str:
        """How states and tables call it: `12x768x3072`."""
        return "x".join(map(str, self.shape))

    def gather(
        self,
        stacks: Sequence[Shaped[Array, "_ _ _"]] | Mapping[int, Shaped[Array, "_ _ _"]],
        dtype: DTypeLike,
    ) -> Array:
        """Return the matrices of all members in one array `(k, m, n)` of that dtype."""
        members = [stacks[index].astype(dtype) for index in self.members]
        return members[0] if len(members) == 1 else jnp.concatenate(members)

    def parts(self, sizes: Sequence[int], limit: int) -> list["Bucket"]:
        """Return buckets of one member after the other, with stacks of up to `limit` in all.

        `sizes` are those of all stacks; a member that is larger has a bucket of its own.
        """
        cut, total = [], 0
        for position, index in enumerate(self.members):
            total += sizes[index]
            if not cut or total > limit:
                cut.append(position)
                total = sizes[index]
        spans = itertools.pairwise([*cut, len(self.members)])
        return [
            Bucket(self.matrix_shape, self.members[start:stop], self.counts[start:stop])
            for start, stop in spans
        ]

    def scatter(self, gathered: Shaped[Array, "k m n"]) -> dict[int, Array]:
        """Return each member's own stack by its index; the inverse of `gather`."""
        stacks, start = {}, 0
        for index, count in zip(self.members, self.counts, strict=True):
            stacks[index] = gathered[start : start + count]
            start += count
        return stacks


def plan_buckets(shapes: Sequence[StackShape]) -> tuple[Bucket, ...]:
    """Return the buckets of stacks of these `(stack, fan_in, fan_out)`, first come first."""
    members: dict[tuple[int, int], list[int]] = {}
    for index, (_, m, n) in enumerate(shapes):
        members.setdefault((m, n), []).append(index)
    return tuple(
        Bucket(shape, tuple(indices), tuple(shapes[index][0] for index in indices))
        for shape, indices in members.items()
    )
