"""Where matrices are computed: `spread` takes them there, `collect` brings them home.

`replicated` computes every matrix on every device. Without a mesh, and on an Auto mesh, there is
nothing to do: XLA moves what it must. On an Explicit mesh the types say where an array is, and a
reshape or a product of sharded axes is refused, so a leaf is first resharded to all devices.
"""

from typing import Literal

import jax
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array, Shaped

Placement = Literal["replicated"]


def check_placement(placement: str) -> None:
    """Refuse a placement that does not exist."""
    if placement != "replicated":
        raise ValueError(f"no placement is called {placement!r}; there is 'replicated'")


def spread(leaf: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
    """Return `leaf` on all devices of the Explicit mesh it lives on, if it lives on one."""
    return leaf if _spec(leaf) is None else jax.sharding.reshard(leaf, PartitionSpec())


def collect(leaf: Shaped[Array, "*shape"], like: Shaped[Array, "*shape"]) -> Array:
    """Return `leaf` where `like` is; the inverse of `spread`."""
    spec = _spec(like)
    return leaf if spec is None else jax.sharding.reshard(leaf, spec)


def _spec(leaf: Array) -> PartitionSpec | None:
    sharding = getattr(jax.typeof(leaf), "sharding", None)
    if sharding is None or AxisType.Explicit not in sharding.mesh.axis_types:
        return None
    return sharding.spec
