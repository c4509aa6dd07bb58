"""What a verb does with matrices, and how stacks of them go through its rule."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from ..layout.bucket import MatrixShape
from ..layout.gathering import Stack
from ..layout.key import BucketKey
from ..sites.site import Members
from ..xla.chunks import in_chunks
from ..xla.dtypes import common_dtype
from ..xla.order import hold, places_before
from ..xla.scopes import bucket_scope
from ..xla.targets import current_target
from ..xla.trace_once import trace_once


@runtime_checkable
class Kernel(Protocol):
    """What a verb does with matrices.

    A stack is reduced to what the rule needs to see, all that meet go through the rule, and a stack
    is made of what comes out. Stacks are reduced and applied in parts, one part after the other.

    Attributes:
        name: What `describe` calls it.
        rule: An optimizer whose parameter is one array `(k, p, q)`: what `k` matrices are reduced
            to. Or a function of that, for some matrices at a time, or for one without the axis of
            the stack; then nothing is kept, and all of one size meet, whatever bucket they are of.
        by_grams: Whether Gram matrices are all that is needed. Then the rule gets no parameters,
            and a matrix may stay split among devices along its long side.
        chunk_bytes: How many bytes a function gets at once; None leaves it to the target.
    """

    name: str
    rule: optax.GradientTransformationExtraArgs | Callable[..., Stack]
    by_grams: bool
    chunk_bytes: int | None

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

    def reduce(self, stack: Stack, scales: Any) -> Stack:
        """Return what the rule gets of a stack."""
        ...

    def numbers(self, scales: Sequence[Any]) -> tuple[Array, ...]:
        """Return what a function gets beside the matrices of stacks of these scales."""
        ...

    def apply(
        self, result: Stack, stack: Stack, scales: Any, transposed: Bool[Array, " k"]
    ) -> Stack:
        """Return what becomes of a stack, given what the rule has made of it."""
        ...


def is_stateless(kernel: Kernel) -> bool:
    """Whether its rule is a function."""
    return not isinstance(kernel.rule, optax.GradientTransformation)


def finished(rule: optax.GradientTransformation, stack: Stack, transposed: Any) -> Stack:
    """Return what a rule without a state makes of a stack.

    A matrix that is transposed in its bucket is given to the rule as it is in its leaf.
    """
    run = lambda stack: jnp.asarray(rule.update(stack, rule.init(stack))[0])
    done = run(stack)
    if transposed is not None:
        done = jnp.where(transposed[:, None, None], run(stack.mT).mT, done)
    return done


def init_bucket(kernel: Kernel, key: BucketKey, members: Members) -> Any:
    """Return the state of a bucket."""
    if not isinstance(kernel.rule, optax.GradientTransformation):
        return optax.EmptyState()
    if kernel.by_grams:
        count = sum(stack.shape[0] for stack in members.stacks)
        return kernel.rule.init(jnp.zeros((count, *kernel.reduced(key.matrix_shape)), key.dtype))
    return kernel.rule.init(_concatenate([stack.astype(key.dtype) for stack in members.stacks]))


class _Item(NamedTuple):
    """A stack on its way through the rule, and where it belongs."""

    bucket: int
    name: str  # of the bucket
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
    limit = sum(sizes) // current_target().parts
    for group in _groups(kernel, keys):
        names = [keys[bucket].shape_name for bucket in group]
        items = [
            item
            for bucket, name in zip(group, names, strict=True)
            for item in _items(scales_of, bucket, name, members[bucket])
        ]
        dtype = common_dtype(*{keys[bucket].dtype for bucket in group})
        parts = list(_parts(items, limit))
        seen, last = _reduced(reduce, parts, dtype, last)
        if isinstance(kernel.rule, optax.GradientTransformation):
            theirs: Any = None
            if params is not None:
                stacks = [stack for bucket in group for stack in params[bucket].stacks]
                theirs = _concatenate([stack.astype(dtype) for stack in stacks])
            (bucket,) = group
            with bucket_scope(names):
                results, states[bucket] = kernel.rule.update(seen, states[bucket], theirs, **extra)
        else:
            most = kernel.chunk_bytes or current_target().chunk_bytes
            with bucket_scope(names):
                numbers = kernel.numbers([item.scales for item in items])
                beside = [x.astype(jnp.finfo(dtype).dtype) for x in numbers]
                results = in_chunks(kernel.rule, most, seen, *beside)
        for item, out in _applied(apply, parts, jnp.asarray(results), last):
            outs[item.bucket][item.member] = last = out
    return outs, states


def _groups(kernel: Kernel, keys: Sequence[BucketKey]) -> list[list[int]]:
    """Return the buckets that go through the rule together."""
    groups: dict[Any, list[int]] = {}
    for index, key in enumerate(keys):
        name = kernel.reduced(key.matrix_shape) if is_stateless(kernel) else index
        groups.setdefault(name, []).append(index)
    return list(groups.values())


def _items(scales_of: Callable, bucket: int, name: str, members: Members) -> Iterator[_Item]:
    for index, stack in enumerate(members.stacks):
        yield _Item(bucket, name, index, stack, scales_of(stack), members.transposed)


def _reduced(
    reduce: Callable, parts: Sequence["_Part"], dtype: jnp.dtype, last: Any
) -> tuple[Array, Array]:
    """Return what the rule gets of all parts, and what is computed last of it."""
    seen: Any = None
    rest = sum(part.size for part in parts)
    for part in parts:
        scales = hold([item.scales for item in part.items], last)
        each = []
        for item, scale in zip(part.items, scales, strict=True):
            with bucket_scope([item.name]):
                each.append(reduce(item.stack, scale))
        last = some = _concatenate([x.astype(dtype) for x in each])
        rest -= part.size
        if seen is None:  # zeros for all of them would be in memory from the start
            seen = jnp.pad(some, [(0, rest), (0, 0), (0, 0)]) if rest else some
        else:
            at = hold(jnp.int32(part.start), last)
            seen = jax.lax.dynamic_update_slice_in_dim(seen, some, at, 0)
    return seen, last


def _applied(
    apply: Callable, parts: Sequence["_Part"], results: Stack, last: Array
) -> Iterator[tuple[_Item, Stack]]:
    """Yield what becomes of each stack, beginning with the last."""
    for part in reversed(parts):
        counts = [len(item.stack) for item in reversed(part.items)]
        places = places_before(part.start + part.size, counts, last)
        for item, count in zip(reversed(part.items), counts, strict=True):
            result = results
            if count < len(results):
                result = jax.lax.dynamic_slice_in_dim(
                    results, next(places), count, allow_negative_indices=False
                )
            with bucket_scope([item.name]):
                last = apply(result, item.stack, item.scales, item.transposed)
            yield item, last


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
