"""Values that differ between devices, inside `jax.shard_map`."""

from typing import TypeVar

import jax

T = TypeVar("T")


def vary_alike(tree: T) -> T:
    """Return the same tree, each leaf varying over all mesh axes that any leaf varies over.

    `jax.shard_map` keeps account of which values may differ between devices. A loop that puts such
    a value into an array that does not, and a `cond` of which one branch does, are refused.
    Elsewhere nothing varies, and this does nothing.
    """
    varies_over = lambda x: jax.typeof(x).manual_axis_type.varying
    axes = frozenset[str]().union(*map(varies_over, jax.tree.leaves(tree)))

    def vary(x):
        missing = tuple(axes - varies_over(x))
        return jax.lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(vary, tree)
