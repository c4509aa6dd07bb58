"""Some matrices at a time, so that what an update takes beside its state is bounded."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from .order import once
from .targets import current_target
from .varying import vary_like

_NO_MESH = AbstractMesh((), ())


def in_chunks(update: Callable[..., Any], limit: int, stacks: Any, *given: Any) -> Any:
    """Return `update(stacks, *given)`, computed for some matrices at a time.

    All leaves have the same leading axis, and the results are of the shapes and dtypes of `stacks`:
    they take the room of what they are made of. `limit` is how many bytes of `stacks` come at once,
    at least one matrix of each; if one, then without that axis. The last chunk may be smaller than
    the others. An update that cannot be in a loop gets all.
    """
    leaves = jax.tree.leaves(stacks)
    k = len(leaves[0])
    most = limit // max(1, sum(math.prod(x.shape[1:]) * x.dtype.itemsize for x in leaves))
    if k == 1:
        alone = jax.tree.map(lambda x: x[0], (stacks, *given))
        return jax.tree.map(lambda x: x[None], update(*alone))
    if k <= most:
        return update(stacks, *given)
    size = chunk_size(k, most)
    chunks, rest = divmod(k, size)

    def some(count: int) -> tuple[int, ...]:
        return () if count == 1 else (count,)

    one = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(some(size) + x.shape[1:], x.dtype), (stacks, *given)
    )
    values = _closed_over(update, *one)
    if not all(map(_fits_in_loop, values)):
        return update(stacks, *given)
    stacks = vary_like(stacks, (stacks, given, values))

    def last(count: int, mine: Any, theirs: Any) -> Any:
        """Return `mine` with its last so many matrices updated."""
        part = lambda x: x[-count:].reshape(some(count) + x.shape[1:])
        new = update(*jax.tree.map(part, (mine, *theirs)))
        whole = lambda x, new: new.reshape(count, *x.shape[1:])
        new = vary_like(jax.tree.map(whole, mine, new), mine)
        if count == size:
            return new
        return jax.tree.map(lambda x, new: jnp.concatenate([x[:-count], new]), mine, new)

    def chunk(index, stacks):
        start = index * size  # of the last one, where it is smaller, JAX makes it `k - size`
        part = lambda x: jax.lax.dynamic_slice_in_dim(x, start, size)
        put = lambda x, new: jax.lax.dynamic_update_slice_in_dim(x, new, start, 0)
        mine, theirs = jax.tree.map(part, (stacks, given))
        if not current_target().forces_order:
            mine = once(mine)  # in fast memory
        # Never without a `cond`, although all chunks may be whole: XLA for CPUs does not look into
        # it. Otherwise it reads parts where they are used, perhaps after they are put back, and to
        # that end copies all stacks for every chunk.
        rest_of = (lambda mine, theirs: last(rest, mine, theirs)) if rest else lambda mine, _: mine
        whole = lambda mine, theirs: last(size, mine, theirs)
        mine = jax.lax.cond(index < chunks, whole, rest_of, mine, theirs)
        return jax.tree.map(put, stacks, mine)

    return jax.lax.fori_loop(0, chunks + (rest > 0), chunk, stacks)


def chunk_size(k: int, at_most: int) -> int:
    """Return how many of `k` matrices come at once.

    Equal chunks, if they are not smaller than half of what is allowed, because a smaller last chunk
    is compiled apart. Otherwise nearly equal ones.
    """
    equal = largest_divisor(k, at_most)
    return equal if 2 * equal >= at_most else math.ceil(k / math.ceil(k / at_most))


def largest_divisor(n: int, at_most: int) -> int:
    """Return the largest divisor of `n` that is at most so large, and 1 where there is none."""
    return max((d for d in range(2, at_most + 1) if n % d == 0), default=1)


def can_loop(f: Callable[..., Any], *examples: Any) -> bool:
    """Whether `f` can be in the body of a loop.

    A formula for a mesh is traced apart from it. If it then closes over a value of the mesh, such
    as a hyperparameter that `optax.inject_hyperparams` has traced, the types of a loop around it do
    not fit.
    """
    return all(map(_fits_in_loop, _closed_over(f, *examples)))


def _closed_over(f: Callable[..., Any], *examples: Any) -> list[Any]:
    return jax.closure_convert(f, *examples)[1]


def _fits_in_loop(value: Any) -> bool:
    here = jax.sharding.get_abstract_mesh()
    return jax.typeof(value).sharding.mesh in (here, _NO_MESH)
