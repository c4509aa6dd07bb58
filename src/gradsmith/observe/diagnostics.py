"""Numbers of an optimizer's state that a training run can log."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..layout.key import BucketKey
from ..xla.dtypes import wide_dtype


def diagnostics(state: Any) -> dict[str, Array]:
    """Return the counters of a state, and the root mean square of every array in it.

    It works for any chain, also a nested one. A name is the path of the array without what chains
    and wrappers add: the group of a partition, the part of the state, and the leaf, or the bucket
    if a rule keeps it. The values are scalars, so a jitted step can return the dict.
    Costs one pass over the state; on a mesh, one sum over the devices for each array.

    On a mesh some places of a bucket hold copies of matrices. They are left out, so that the
    numbers do not depend on the mesh.

    Args:
        state: The state of any Optax transformation.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
        >>> tx = gs.muon(0.02)
        >>> _, state = tx.update(params, tx.init(params))
        >>> for name, value in gs.diagnostics(state).items():
        ...     print(name, round(value.item(), 2))
        embedding/count 1
        head/count 1
        matrices/step 1
        matrices/momentum/kernel 0.05
        others/count 1
        others/mu/bias 0.1
        others/nu/bias 0.05
    """
    found = [kept for kept in _walk(state, _Place()) if _is_number(kept.array)]
    names = [kept.place.name for kept in found]
    unique = lambda place: place.name if names.count(place.name) == 1 else place.path
    return {unique(place).strip("/"): _summary(array, place.matrices) for place, array in found}


class _Place(NamedTuple):
    """Where in a state something is.

    Attributes:
        path: The whole path.
        name: The path without chains and wrappers.
        within: Whether it belongs to a part of the chain, no longer to what holds the chain.
        matrices: How many the bucket has; None outside of one.
    """

    path: str = ""
    name: str = ""
    within: bool = False
    matrices: int | None = None


class _Kept(NamedTuple):
    place: _Place
    array: Any


def _walk(node: Any, place: _Place) -> Iterator[_Kept]:
    for path, child in jax.tree_util.tree_leaves_with_path(node, is_leaf=lambda x: x is not node):
        if not path:
            yield _Kept(place, node)
            continue
        entry = jax.tree_util.keystr(path, simple=True, separator="/")
        field = isinstance(path[-1], jax.tree_util.GetAttrKey)
        variable = field and entry == "value"  # of Flax
        holder = field and (entry.startswith("inner_") or entry == "buckets")
        silent = variable or (not place.within and (holder or type(node) is tuple))
        key = BucketKey.parse(entry)
        yield from _walk(
            child,
            _Place(
                f"{place.path}/{entry}",
                place.name if silent else f"{place.name}/{entry}",
                place.within or (field and not silent),
                place.matrices if key is None else key.matrices,
            ),
        )


def _is_number(array: Any) -> bool:
    kinds = (jnp.number, jnp.bool_) if jnp.ndim(array) == 0 else (jnp.inexact,)
    return any(jnp.issubdtype(array.dtype, kind) for kind in kinds)


def _summary(array: Array, matrices: int | None) -> Array:
    if array.ndim == 0:
        return array
    size = jnp.abs(array)
    squares = jnp.square(size.astype(wide_dtype(size.dtype)))
    if matrices is None or array.shape[0] <= matrices:
        return jnp.sqrt(jnp.mean(squares))
    each = jnp.mean(squares, axis=range(1, array.ndim))
    return jnp.sqrt(jnp.sum(jnp.where(jnp.arange(len(each)) < matrices, each, 0)) / matrices)
