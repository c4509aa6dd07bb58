"""From the leaves of a tree to stacks of matrices, and back."""

import itertools
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Shaped

from ..xla.dtypes import common_dtype
from .axes import StackShape
from .bucket import Bucket
from .declare import MatrixLeaf

Stack = Shaped[Array, "_ _ _"]


def split(leaves: Sequence[MatrixLeaf], arrays: Sequence[Array]) -> list[Stack]:
    """Return the stacks of `arrays`, which may be shards of the leaves, cut as the leaves are."""
    pairs = zip(leaves, arrays, strict=True)
    return [stack for leaf, array in pairs for stack in leaf.axes.split(array)]


def join(
    stacks: Mapping[int, Stack], leaves: Sequence[MatrixLeaf], shapes: Sequence[tuple[int, ...]]
) -> list[Array]:
    """Return the arrays of these shapes, in the dtypes of the leaves; undoes `split`."""
    remaining = (stacks[index] for index in range(len(stacks)))
    joined = []
    for leaf, shape in zip(leaves, shapes, strict=True):
        parts = itertools.islice(remaining, len(leaf.axes.runs(leaf.array.shape)))
        joined.append(leaf.axes.join(parts, shape).astype(leaf.array.dtype))
    return joined


def stack_shapes(leaves: Sequence[MatrixLeaf]) -> list[StackShape]:
    """Return `(stack, fan_in, fan_out)` of each stack that `split` makes."""
    return [run.stack_shape for leaf in leaves for run in leaf.axes.runs(leaf.array.shape)]


def dtypes(buckets: Sequence[Bucket], leaves: Sequence[MatrixLeaf]) -> list[jnp.dtype]:
    """Return for each bucket the dtype that holds all of its members."""
    each = [leaf.array.dtype for leaf in leaves for _ in leaf.axes.runs(leaf.array.shape)]
    return [common_dtype(*{each[index] for index in bucket.members}) for bucket in buckets]


def transposed(
    buckets: Sequence[Bucket], leaves: Sequence[MatrixLeaf]
) -> list[Bool[np.ndarray, " k"] | None]:
    """Return for each bucket which of its matrices are transposed in it; None where none is."""
    shapes = stack_shapes(leaves)
    tables = []
    for bucket in buckets:
        each = [shapes[index][1:] != bucket.matrix_shape for index in bucket.members]
        tables.append(np.repeat(each, bucket.counts) if any(each) else None)
    return tables
