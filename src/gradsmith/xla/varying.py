"""Inside a user's `jax.shard_map`: over which mesh axes an array differs between devices."""

from typing import Any

import jax
from jaxtyping import Array


def vary_like(tree: Any, like: Any) -> Any:
    """Return `tree`, whose arrays vary over all mesh axes over which anything in `like` varies.

    `jax.shard_map` checks types: an array that is the same on all devices is of another type than
    one that differs. The two branches of a `cond` and the carry of a loop must have one type, so a
    state that began as plain zeros takes the type of the gradients before it meets them. Scalars,
    such as counters, stay as they are. Elsewhere nothing happens.
    """
    axes = frozenset[str]().union(*(_varying(x) for x in jax.tree.leaves(like)))

    def vary(x: Any) -> Any:
        missing = axes - _varying(x)
        if not missing or jax.numpy.ndim(x) == 0:
            return x
        return jax.lax.pcast(x, tuple(sorted(missing)), to="varying")

    return jax.tree.map(vary, tree) if axes else tree


def mean_of_devices(arrays: list[Array]) -> list[Array]:
    """Return the means over the devices between which the arrays differ. Elsewhere nothing happens.

    So a state that is the same on all devices stays so, whatever is put into it.
    """
    mean = lambda x: jax.lax.pmean(x, tuple(sorted(axes))) if (axes := _varying(x)) else x
    return [mean(x) for x in arrays]


def _varying(x: Any) -> frozenset[str]:
    return jax.typeof(x).manual_axis_type.varying
