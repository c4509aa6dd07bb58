"""What a verb does with matrices, and how stacks of them go through its rule."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Shaped

from ..layout.bucket import MatrixShape
from ..layout.gathering import Stack
from ..layout.key import BucketKey
from ..sites.site import Members
from ..xla.dtypes import common_dtype
from ..xla.order import hold
from ..xla.targets import current_target
from ..xla.trace_once import trace_once

Small = Shaped[Array, "k _ _"]


@runtime_checkable
class Kernel(Protocol):
    """What a verb does with matrices.

    A stack is reduced to what the rule needs to see, all that meet go through the rule at once, and
    a stack is made of what comes out.

    Attributes:
        name: What `describe` calls it.
        rule: An optimizer whose parameter is one array `(k, p, q)`: what `k` matrices are reduced
            to. It gets the stacked `params` if `reduces` is False.
        reduces: Whether the rule sees something smaller than the matrices. Then they are reduced
            part after part, and the rule gets a list of the scales of all stacks in place of
            parameters.
        may_stay_split: Whether a matrix may stay split among devices along its long side.
        stateless: Whether the rule keeps nothing. Then everything of one size goes through it at
            once, whatever bucket it is from.
    """

    name: str
    rule: optax.GradientTransformationExtraArgs
    reduces: bool
    may_stay_split: bool
    stateless: bool

    def meets(self, shape: MatrixShape) -> MatrixShape:
        """Return the shape of the bucket in which matrices of that shape meet."""
        ...

    def dtype(self, dtype: jnp.dtype) -> jnp.dtype:
        """Return the dtype that a bucket of matrices of that dtype is computed in."""
        ...

    def reduced(self, shape: MatrixShape) -> MatrixShape:
        """Return the shape of what the rule gets of a matrix of that shape."""
        ...

    def scales(self, stack: Stack) -> Any:
        """Return what is known of each matrix beforehand: small arrays, or None."""
        ...

    def reduce(self, stack: Stack, scales: Any) -> Small:
        """Return what the rule gets of a stack."""
        ...

    def apply(
        self, result: Small, stack: Stack, scales: Any, transposed: Bool[Array, " k"]
    ) -> Stack:
        """Return what becomes of a stack, given what the rule has made of it."""
        ...


def init_bucket(kernel: Kernel, key: BucketKey, members: Members) -> Any:
    """Return the state of a bucket."""
    if kernel.reduces:
        count = sum(stack.shape[0] for stack in members.stacks)
        return kernel.rule.init(jnp.zeros((count, *kernel.reduced(key.matrix_shape)), key.dtype))
    return kernel.rule.init(_concatenate([stack.astype(key.dtype) for stack in members.stacks]))


class _Item(NamedTuple):
    """A stack on its way through the rule, and where it belongs."""

    bucket: int
    member: int
    stack: Stack
    scales: Any
    transposed: Any


def run_rule(
    kernel: Kernel,
    keys: Sequence[BucketKey],
    members: list[Members],
    params: list[Members] | None,
    states: list[Any],
    **extra: Any,
) -> tuple[list[list[Stack]], list[Any]]:
    """Take the stacks of all buckets through the rule.

    What is reduced last is applied first, so that its memory is free again for the rest.
    """
    outs, states, last = [list(some.stacks) for some in members], list(states), None
    scales_of, reduce = trace_once(kernel.scales), trace_once(kernel.reduce)
    apply = trace_once(kernel.apply)
    sizes = [stack.size * stack.dtype.itemsize for some in members for stack in some.stacks]
    limit = sum(sizes) // current_target().parts if kernel.reduces else sum(sizes)
    for group in _groups(kernel, keys):
        items = [item for bucket in group for item in _items(scales_of, bucket, members[bucket])]
        dtype = common_dtype(*{keys[bucket].dtype for bucket in group})
        parts = list(_parts(items, limit))
        seen: Any = None
        for part in parts:
            scales = hold([item.scales for item in part.items], last)
            pairs = zip(part.items, scales, strict=True)
            some = _concatenate([reduce(x.stack, s).astype(dtype) for x, s in pairs])
            if seen is None:  # zeros for all of them would be in memory from the start
                rest = sum(part.size for part in parts) - part.size
                seen = jnp.pad(some, [(0, rest), (0, 0), (0, 0)]) if rest else some
            else:
                at = hold(jnp.int32(part.start), last)
                seen = jax.lax.dynamic_update_slice_in_dim(seen, some, at, 0)
            last = some if kernel.reduces else None
        theirs: Any = None
        if kernel.reduces:
            theirs = [item.scales for item in items]
        elif params is not None:
            stacks = [stack for bucket in group for stack in params[bucket].stacks]
            theirs = _concatenate([stack.astype(dtype) for stack in stacks])
        rule_state = states[group[0]]
        results, states[group[0]] = kernel.rule.update(seen, rule_state, theirs, **extra)
        results = jnp.asarray(results)
        for part in reversed(parts):
            if len(parts) > 1:
                at = hold(jnp.int32(part.start), last)
                mine = jax.lax.dynamic_slice_in_dim(results, at, part.size)
            else:
                mine = results
            scales, end = hold([item.scales for item in part.items], last), part.size
            for item, scale in reversed(list(zip(part.items, scales, strict=True))):
                start = end - len(item.stack)
                result, end = jax.lax.slice_in_dim(mine, start, end), start
                out = apply(result, item.stack, scale, item.transposed)
                outs[item.bucket][item.member] = out
                last = out if kernel.reduces else None
    return outs, states


def _groups(kernel: Kernel, keys: Sequence[BucketKey]) -> list[list[int]]:
    """Return the buckets that go through the rule in one call."""
    groups: dict[Any, list[int]] = {}
    for index, key in enumerate(keys):
        name = kernel.reduced(key.matrix_shape) if kernel.stateless else index
        groups.setdefault(name, []).append(index)
    return list(groups.values())


def _items(scales_of: Callable, bucket: int, members: Members) -> Iterator[_Item]:
    for index, stack in enumerate(members.stacks):
        yield _Item(bucket, index, stack, scales_of(stack), members.transposed)


class _Part(NamedTuple):
    """Some stacks in a row; `start` and `size` are those of their matrices."""

    items: list[_Item]
    start: int
    size: int


def _parts(items: Sequence[_Item], limit: int) -> Iterator[_Part]:
    """Cut stacks into parts of up to `limit` bytes; a larger stack has a part of its own."""
    some, size, start, count = [], 0, 0, 0
    for item in items:
        of_item = item.stack.size * item.stack.dtype.itemsize
        if some and size + of_item > limit:
            yield _Part(some, start, count)
            some, size, start, count = [], 0, start + count, 0
        some.append(item)
        size, count = size + of_item, count + len(item.stack)
    yield _Part(some, start, count)


def _concatenate(stacks: Sequence[Stack]) -> Stack:
    return stacks[0] if len(stacks) == 1 else jnp.concatenate(stacks)
