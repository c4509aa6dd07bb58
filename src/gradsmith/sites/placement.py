"""Which site computes which matrices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax.typing import DTypeLike

from ..layout.bucket import MatrixShape, plan_buckets
from ..layout.declare import MatrixLeaf
from ..layout.gathering import stack_shapes
from ..layout.paths import all_paths, unknown_paths
from .here import Here
from .in_place import InPlace, unique_leaves
from .moved_by_xla import MovedByXla
from .owners import at_owners
from .shards import mesh_of, spec_paths, splits_of
from .site import Site


@dataclass(frozen=True)
class Owners:
    """Compute every matrix on the one device that owns it; `placement='owners'` and its options.

    Attributes:
        param_specs: How the parameters are split, for a mesh of Auto axes, where arrays inside
            `jit` do not tell: a tree, or a prefix of one, of `PartitionSpec` or `NamedSharding`; or
            a function of path and leaf. Not needed where axes are Explicit.
        transfer_dtype: The dtype in which floating-point numbers travel, such as `jnp.bfloat16`,
            if it is narrower than their own. It halves the traffic of float32. An update is then
            rounded twice.

    Raises:
        ValueError: `transfer_dtype` is no floating-point dtype.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jax.sharding import PartitionSpec as P
        >>> import gradsmith as gs
        >>> specs = {"kernel": P("fsdp", None)}
        >>> placement = gs.Owners(param_specs=specs, transfer_dtype=jnp.bfloat16)
        >>> tx = gs.per_stack(gs.polar_factor(), placement=placement)
    """

    param_specs: Any = None
    transfer_dtype: DTypeLike | None = None

    def __post_init__(self):
        try:
            fits = self.transfer_dtype is None or jnp.issubdtype(self.transfer_dtype, jnp.floating)
        except TypeError:
            fits = False
        if not fits:
            raise ValueError(
                f"Owners(transfer_dtype={self.transfer_dtype!r}) is no floating-point dtype; give "
                f"one that is narrower than the parameters, such as jnp.bfloat16"
            )


Placement = Literal["replicated", "owners"] | Owners
"""Where matrices are computed.

Each on one device of the mesh that is set ('owners', or `Owners` with options), or all of them on
every device ('replicated'). Without a mesh there is no difference, and inside `jax.shard_map` every
device computes what it is given."""


def check_placement(placement: Any) -> None:
    """Refuse a placement that does not exist."""
    if not isinstance(placement, Owners) and placement not in ("replicated", "owners"):
        raise ValueError(
            f"no placement is called {placement!r}; there are 'replicated', 'owners' and "
            f"gradsmith.Owners(...)"
        )


def check_specs(placement: Placement, params: Any) -> None:
    """Refuse specs for paths that the parameters lack.

    Raises:
        ValueError: There are some.
    """
    specs = placement.param_specs if isinstance(placement, Owners) else None
    if specs is None or callable(specs):
        return
    paths = all_paths(params)
    unknown = unknown_paths(spec_paths(specs), paths)
    if unknown:
        raise ValueError(
            f"param_specs name {', '.join(map(repr, unknown))}, where the parameters have no leaf; "
            f"they have {', '.join(paths[:8])}{' ...' if len(paths) > 8 else ''}"
        )


class Assigned(NamedTuple):
    """A site, and the indices of the leaves that are computed there."""

    site: Site
    leaves: Sequence[int]


def sites_of(
    placement: Placement,
    leaves: Sequence[MatrixLeaf],
    meets: Callable[[MatrixShape], MatrixShape],
    may_stay_split: bool,
) -> list[Assigned]:
    """Return where these leaves are computed; every leaf is at one site.

    Args:
        placement: What the user asked for.
        leaves: The leaves.
        meets: The shape of the bucket of a matrix.
        may_stay_split: Whether a matrix may stay split along its long side while it is computed.

    Raises:
        ValueError: A spec does not fit its leaf or the mesh; or a leaf lies on another mesh.
    """
    everything = range(len(leaves))
    plan = lambda some: plan_buckets(stack_shapes([leaves[i] for i in some]), meets)
    options = placement if isinstance(placement, Owners) else Owners()
    mesh = None if placement == "replicated" else mesh_of(leaves, options.param_specs)
    if mesh is None:
        return [Assigned(Here(plan(everything)), everything)]
    splits = splits_of(leaves, mesh, options.param_specs)
    if None in splits:
        path = leaves[splits.index(None)].path
        site = MovedByXla(mesh, plan(everything), options.transfer_dtype, path)
        return [Assigned(site, everything)]
    known = [split for split in splits if split is not None]
    unique = unique_leaves(leaves, known) if may_stay_split else []
    others = [index for index in everything if index not in set(unique)]
    assigned = []
    if unique:
        assigned.append(Assigned(InPlace(mesh, [known[i] for i in unique], plan(unique)), unique))
    if others:
        there = [leaves[i] for i in others], [known[i] for i in others], plan(others)
        assigned.append(Assigned(at_owners(mesh, *there, options.transfer_dtype), others))
    return assigned
