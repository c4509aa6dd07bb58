"""Some matrices at a time, so that what an update takes beside its state is bounded."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AbstractMesh

_NO_MESH = AbstractMesh((), ())


def in_chunks(update: Callable[..., Any], limit: int, stacks: Any, *given: Any) -> Any:
    """Return `update(stacks, *given)`, computed for some matrices at a time.

    All leaves have the same leading axis, and the results are of the shapes and dtypes of `stacks`:
    they take the room of what they are made of. `limit` is how many bytes of `stacks` come at once,
    at least one matrix of each; if one, then without that axis. An update that cannot be in a loop
    gets all.
    """
    leaves = jax.tree.leaves(stacks)
    k = len(leaves[0])
    most = limit // max(1, sum(math.prod(x.shape[1:]) * x.dtype.itemsize for x in leaves))
    if k == 1:
        alone = jax.tree.map(lambda x: x[0], (stacks, *given))
        return jax.tree.map(lambda x: x[None], update(*alone))
    if k <= most:
        return update(stacks, *given)
    size = largest_divisor(k, most)
    lead = () if size == 1 else (size,)
    one = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(lead + x.shape[1:], x.dtype), (stacks, *given)
    )
    if not can_loop(update, *one):
        return update(stacks, *given)

    def turn(index, stacks):
        start = index * size
        part = lambda x: jax.lax.dynamic_slice_in_dim(x, start, size).reshape(lead + x.shape[1:])
        put = lambda x, new: jax.lax.dynamic_update_slice_in_dim(
            x, new.reshape(size, *x.shape[1:]), start, 0
        )
        mine, *theirs = jax.tree.map(part, (stacks, *given))
        # In a loop of its own, of one round: otherwise XLA on CPUs reads parts where they are used,
        # perhaps after they are put back, and to that end copies all stacks in every turn.
        mine = jax.lax.fori_loop(index, index + 1, lambda _, mine: update(mine, *theirs), mine)
        return jax.tree.map(put, stacks, mine)

    return jax.lax.fori_loop(0, k // size, turn, stacks)


def largest_divisor(n: int, at_most: int) -> int:
    """Return the largest divisor of `n` that is at most so large, and 1 where there is none."""
    return max((d for d in range(2, at_most + 1) if n % d == 0), default=1)


def can_loop(f: Callable[..., Any], *examples: Any) -> bool:
    """Whether `f` can be in the body of a loop.

    A formula for a mesh is traced apart from it. If it then closes over a value of the mesh, such
    as a hyperparameter that `optax.inject_hyperparams` has traced, the types of a loop around it do
    not fit.
    """
    closed_over = jax.closure_convert(f, *examples)[1]
    here = jax.sharding.get_abstract_mesh()
    return all(jax.typeof(value).sharding.mesh in (here, _NO_MESH) for value in closed_over)
