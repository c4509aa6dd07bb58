"""From the leaves of a tree to the stacks of its buckets, and back."""

import itertools
from collections.abc import Sequence
from typing import Any

from jaxtyping import Array

from ..dtypes import common_dtype
from .bucket import Bucket
from .declare import MatrixLeaf


def gather(buckets: Sequence[Bucket], leaves: Sequence[MatrixLeaf]) -> list[Array]:
    """Return the stack of each bucket, in the dtype that holds all of its members."""
    stacks = split(leaves, [own.leaf for own in leaves])
    pairs = zip(buckets, dtypes(buckets, leaves), strict=True)
    return [bucket.gather(stacks, dtype) for bucket, dtype in pairs]


def scatter(
    buckets: Sequence[Bucket], gathered: Sequence[Array], leaves: Sequence[MatrixLeaf]
) -> list[Array]:
    """Return the leaves that these stacks make, in the dtypes of `leaves`; undoes `gather`."""
    stacks = {}
    for bucket, stack in zip(buckets, gathered, strict=True):
        stacks |= bucket.scatter(stack)
    return join(stacks, leaves, [own.leaf.shape for own in leaves])


def split(leaves: Sequence[MatrixLeaf], arrays: Sequence[Array]) -> list[Array]:
    """Return the stacks of `arrays`, which may be shards of the leaves, cut as the leaves are."""
    pairs = zip(leaves, arrays, strict=True)
    return [stack for own, array in pairs for stack in own.axes.split(array)]


def join(
    stacks: dict[int, Array], leaves: Sequence[MatrixLeaf], shapes: Sequence[tuple[int, ...]]
) -> list[Array]:
    """Return the arrays of these shapes, in the dtypes of the leaves; undoes `split`."""
    remaining = (stacks[index] for index in range(len(stacks)))
    joined = []
    for own, shape in zip(leaves, shapes, strict=True):
        parts = itertools.islice(remaining, len(own.axes.stack_shapes(own.leaf.shape)))
        joined.append(own.axes.join(parts, shape).astype(own.leaf.dtype))
    return joined


def dtypes(buckets: Sequence[Bucket], leaves: Sequence[MatrixLeaf]) -> list[Any]:
    """Return for each bucket the dtype that holds all of its members."""
    each = [own.leaf.dtype for own in leaves for _ in own.axes.stack_shapes(own.leaf.shape)]
    return [common_dtype(*(each[index] for index in bucket.members)) for bucket in buckets]
