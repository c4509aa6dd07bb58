"""All matrices that meet: planned from shapes alone.

Two hundred small products in a row cost two hundred dispatches and two hundred compiled bodies. One
batched product costs one. The plan is made from shapes alone, so today's gradients may have another
dtype than the parameters, and nothing is compiled or allocated anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jax.typing import DTypeLike

from .axes import StackShape
from .key import BucketKey

MatrixShape = tuple[int, int]


@dataclass(frozen=True)
class Bucket:
    """The stacks whose matrices meet.

    Attributes:
        matrix_shape: `(m, n)` of the bucket. A member of shape `(n, m)` is transposed in it.
        members: The indices of the stacks, in the order of the tree.
        counts: How many matrices each of them has.
    """

    matrix_shape: MatrixShape
    members: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many matrices it has."""
        return sum(self.counts)

    @property
    def name(self) -> str:
        """What it is called where the dtype does not matter."""
        return self.key("").shape_name

    def key(self, dtype: DTypeLike) -> BucketKey:
        """Return its name in a state that is computed in that dtype."""
        return BucketKey(self.count, self.matrix_shape, dtype)


def plan_buckets(
    shapes: Sequence[StackShape],
    meets: Callable[[MatrixShape], MatrixShape] = lambda shape: shape,
) -> tuple[Bucket, ...]:
    """Return the buckets of stacks of these `(stack, fan_in, fan_out)`, first come first.

    Stacks whose matrices have one shape after `meets` are in one bucket.
    """
    members: dict[MatrixShape, list[int]] = {}
    for index, (_, m, n) in enumerate(shapes):
        members.setdefault(meets((m, n)), []).append(index)
    return tuple(
        Bucket(shape, tuple(indices), tuple(shapes[index][0] for index in indices))
        for shape, indices in members.items()
    )
