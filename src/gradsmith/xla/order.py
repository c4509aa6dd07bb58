"""What is computed when.

XLA on CPUs orders a program so that much of it can run at the same time, and keeps all of that in
memory. It removes `optimization_barrier` before it orders. So what shall come later is made to
depend on what shall come first, in a way that changes no value and that XLA cannot see through.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Inexact, Int

from .targets import current_target
from .trace_once import trace_once

Tree = TypeVar("Tree")


def hold(values: Tree, until: Inexact[Array, "..."] | None) -> Tree:
    """Return `values`, which are there only once `until` is computed. Costs one select a value.

    Give it something small on which the later work depends: a scale, or a place in an array. On a
    target that orders well by itself, and where `until` is None or empty, nothing happens.
    """
    if not jax.tree.leaves(values):
        return values
    never = _never(until)
    if never is None:
        return values
    # The other value is never taken. XLA sees through a select between equal constants, such as
    # a place that is zero and zero.
    held = trace_once(lambda x, never: jnp.where(never, x + 1, x))
    return jax.tree.map(lambda x: held(x, never), values)


def places_before(
    end: int, counts: Sequence[int], until: Inexact[Array, "..."]
) -> Iterator[int | Int[Array, ""]]:
    """Yield where stacks of so many matrices begin, each before the last; the first ends at `end`.

    They are there only once `until` is computed, as by `hold`. XLA for CPUs compiles a slice at a
    known place anew for each place, and a slice at a place that is an argument once. What is
    computed one by one it would compute again wherever it is used. So each place is made of the
    one behind it, by a reduction.
    """
    never = _never(until)
    before = lambda at, count: at - count
    if never is not None:  # the numbers 0 and 1 are never taken
        numbers = lambda at, count: jnp.where(never, jnp.arange(2, dtype=at.dtype), at - count)
        before = trace_once(lambda at, count: jnp.max(numbers(at, count)))
    at = end if never is None else jnp.int32(end)
    for count in counts:
        at = before(at, count)
        yield at


def once(x: Tree) -> Tree:
    """Return `x`, made once, before anybody reads it.

    XLA for TPUs makes a choice between arrays, and a slice, anew for everyone who reads it. XLA for
    CPUs may give the parts of what is sent different layouts, and then refuses to send them
    together.
    """
    return jax.lax.optimization_barrier(x)


def _never(until: Inexact[Array, "..."] | None) -> Bool[Array, ""] | None:
    """Return what is false once `until` is computed; None where there is nothing to wait for."""
    if until is None or until.size == 0 or not current_target().forces_order:
        return None
    return _at_most_zero(jax.lax.stop_gradient(until)) > 0


@custom_vmap
def _at_most_zero(result: Any) -> Int[Array, ""]:
    """Return a number that is at most zero, made of some of the numbers in `result`.

    Of several, because XLA computes the maximum of a single one again wherever it is used.
    """
    some = result.ravel()[:8].real.astype(jnp.int32)
    return jnp.max(jnp.minimum(some, 0))


@_at_most_zero.def_vmap
def _(axis_size: int, in_batched: Any, result: Any) -> tuple[Int[Array, ""], bool]:
    """Wait for the whole batch: a place that differed in a batch would make gathers of slices."""
    del axis_size, in_batched
    return _at_most_zero(result), False
