"""From the leaves of a tree to the stacks of its buckets, and back.

A bucket may hold matrices of its shape and of the transposed one. The latter are *turned*: they are
transposed on the way there and on the way back.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Bool

from ..xla.dtypes import common_dtype
from .axes import StackShape
from .bucket import Bucket
from .declare import MatrixLeaf


def gather(buckets: Sequence[Bucket], leaves: Sequence[MatrixLeaf]) -> list[Array]:
    """Return the stack of each bucket, in the dtype that holds all of its members."""
    stacks = split(leaves, [own.leaf for own in leaves])
    for bucket in buckets:
        for index in bucket.members:
            if stacks[index].shape[1:] != bucket.matrix_shape:
                stacks[index] = stacks[index].mT
    pairs = zip(buckets, dtypes(buckets, leaves), strict=True)
    return [bucket.gather(stacks, dtype) for bucket, dtype in pairs]


def scatter(
    buckets: Sequence[Bucket], gathered: Sequence[Array], leaves: Sequence[MatrixLeaf]
) -> list[Array]:
    """Return the leaves that these stacks make, in the dtypes of `leaves`; undoes `gather`."""
    stacks = {}
    for bucket, stack in zip(buckets, gathered, strict=True):
        stacks |= bucket.scatter(stack)
    for index, shape in enumerate(_stack_shapes(leaves)):
        if stacks[index].shape != shape:
            stacks[index] = stacks[index].mT
    return join(stacks, leaves, [own.leaf.shape for own in leaves])


def turned(
    buckets: Sequence[Bucket], leaves: Sequence[MatrixLeaf]
) -> list[Bool[np.ndarray, " k"] | None]:
    """Return for each bucket which of its matrices are turned; None where none is."""
    shapes = _stack_shapes(leaves)
    tables = []
    for bucket in buckets:
        each = [shapes[index][1:] != bucket.matrix_shape for index in bucket.members]
        tables.append(np.repeat(each, bucket.counts) if any(each) else None)
    return tables


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


def _stack_shapes(leaves: Sequence[MatrixLeaf]) -> list[StackShape]:
    return [shape for own in leaves for shape in own.axes.stack_shapes(own.leaf.shape)]
