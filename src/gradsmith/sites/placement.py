"""Where matrices are computed.

`replicated` computes every matrix on every device. `owners` gives each device whole matrices of its
own: they travel there once and back once, and between the formula runs on every device by itself.
Both are *sites* with two methods, so that a verb need not know which it has:

    init(make, leaves)                            the state that `make` makes of the stacks
    update(step, make, leaves, params, state)     the leaves after `step`, and its state

where `make(stacks)` gives a list with a state for each bucket, and `step(stacks, params, state,
turned)` gives stacks and such a list. `stacks` has one array `(k, m, n)` for each bucket, and
`turned` says which of its matrices are transposed, or None where none is.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh, PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array

from ..layout.axes import MatrixAxes
from ..layout.bucket import Bucket
from ..layout.declare import MatrixLeaf
from ..layout.gathering import gather, scatter, turned
from .exchange import fill
from .owners import AtOwners, at_owners
from .shards import Split, explicit_spec, mesh_of, sizes_of, splits_of


@dataclass(frozen=True)
class Owners:
    """Compute every matrix on the one device that owns it; `placement='owners'` and its options.

    Attributes:
        param_specs: How the parameters are split, for a mesh of Auto axes, where arrays inside
            `jit` do not tell: a tree, or a prefix of one, of `PartitionSpec` or `NamedSharding`; or
            a function of path and leaf. Not needed where axes are Explicit.
        transfer_dtype: The dtype in which floating-point numbers travel, such as `jnp.bfloat16`,
            where it is narrower than their own. Halves the traffic of float32; an update is rounded
            twice.

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


Placement = Literal["replicated", "owners"] | Owners
"""Where matrices are computed: each on one device of the mesh that is set ('owners', or `Owners`
with options), or all of them on every device ('replicated'). Without a mesh there is no difference,
and inside `jax.shard_map` every device computes what it is given."""

Site = "Everywhere | AtOwners | Unseen"


def check_placement(placement: Any) -> None:
    """Refuse a placement that does not exist."""
    if not isinstance(placement, Owners) and placement not in ("replicated", "owners"):
        raise ValueError(
            f"no placement is called {placement!r}; there are 'replicated', 'owners' and "
            f"gradsmith.Owners(...)"
        )


def site_of(
    placement: Placement, leaves: Sequence[MatrixLeaf], buckets: Sequence[Bucket]
) -> "Everywhere | AtOwners | Unseen":
    """Return where these leaves are computed.

    Args:
        placement: What the user asked for.
        leaves: The leaves, or those of a tree that is split as they are.
        buckets: Which of their stacks meet. On the way to an owner, matrices of the transposed
            shape of their bucket are transposed.

    Raises:
        ValueError: A spec does not fit its leaf or the mesh; or a leaf lies on another mesh.
    """
    if placement == "replicated":
        return Everywhere(buckets)
    owners = placement if isinstance(placement, Owners) else Owners()
    mesh = mesh_of([own.leaf for own in leaves], owners.param_specs)
    if mesh is None:
        return Everywhere(buckets)
    splits = splits_of(leaves, mesh, owners.param_specs)
    known = [split for split in splits if split is not None]
    if len(known) < len(splits):
        return Unseen(mesh, buckets, owners.transfer_dtype, leaves[splits.index(None)].path)
    return at_owners(mesh, leaves, known, buckets, owners.transfer_dtype)


@dataclass(frozen=True)
class Everywhere:
    """A site where every device computes all matrices that it sees; without a mesh, all there are.

    On an Explicit mesh, where a reshape or a product of split axes is refused, leaves are first
    brought whole to all devices. On an Auto mesh XLA moves what it must.
    """

    buckets: Sequence[Bucket]

    def init(self, make: Callable, leaves: Sequence[MatrixLeaf]) -> list[Any]:
        """Return the state that `make` makes of the stacks of all buckets."""
        return make(self._gather(leaves))

    def update(
        self,
        step: Callable,
        make: Callable,
        leaves: Sequence[MatrixLeaf],
        params: Sequence[MatrixLeaf] | None,
        state: list[Any],
    ) -> tuple[list[Array], list[Any]]:
        """Return the leaves after `step` on the stacks of all buckets, and the state."""
        del make
        param_stacks = None if params is None else self._gather(params)
        stacks, state = step(
            self._gather(leaves), param_stacks, state, turned(self.buckets, leaves)
        )
        return home(scatter(self.buckets, stacks, leaves), leaves), state

    def _gather(self, leaves: Sequence[MatrixLeaf]) -> list[Array]:
        return gather(self.buckets, [own._replace(leaf=whole(own.leaf)) for own in leaves])


@dataclass(frozen=True)
class Unseen:
    """Owners for leaves that do not tell how they are split: gathered first, moved by XLA.

    Attributes:
        mesh: The mesh, of Auto axes.
        buckets: Which stacks meet.
        transfer_dtype: Unused by what XLA moves.
        path: A leaf that does not tell.
    """

    mesh: Mesh | AbstractMesh
    buckets: Sequence[Bucket]
    transfer_dtype: DTypeLike | None
    path: str

    def init(self, make: Callable, leaves: Sequence[MatrixLeaf]) -> list[Any]:
        """As `AtOwners.init`."""
        stacks = self._gather(leaves)
        return self._site(leaves, stacks).init(make, stacks)

    def update(
        self,
        step: Callable,
        make: Callable,
        leaves: Sequence[MatrixLeaf],
        params: Sequence[MatrixLeaf] | None,
        state: list[Any],
    ) -> tuple[list[Array], list[Any]]:
        """As `AtOwners.update`; warns of what is lost."""
        warnings.warn(
            f"leaf {self.path!r} does not tell how it is split on a mesh of Auto axes, so XLA "
            f"chooses how matrices travel to their owners, which may cost many times the traffic; "
            f"say it once: placement=gradsmith.Owners(param_specs=...)",
            stacklevel=2,
        )
        stacks = self._gather(leaves)
        param_stacks = None if params is None else self._gather(params)
        site = self._site(leaves, stacks)
        out, state = site.update(step, make, stacks, param_stacks, state)
        out = [x[: sum(bucket.counts)] for x, bucket in zip(out, self.buckets, strict=True)]
        return scatter(self.buckets, out, leaves), state

    def _gather(self, leaves: Sequence[MatrixLeaf]) -> list[MatrixLeaf]:
        """Return the stack of each bucket as a leaf whose matrices divide evenly."""
        devices = math.prod(sizes_of(self.mesh).values())
        even = lambda stack: fill(stack, math.ceil(stack.shape[0] / devices) * devices)
        return [
            MatrixLeaf(bucket.name, even(stack), MatrixAxes(batch_axis=0))
            for bucket, stack in zip(self.buckets, gather(self.buckets, leaves), strict=True)
        ]

    def _site(self, leaves: Sequence[MatrixLeaf], stacks: Sequence[MatrixLeaf]) -> AtOwners:
        split: Split = (tuple(sizes_of(self.mesh)), (), ())
        own = [Bucket(x.leaf.shape[1:], (i,), (x.leaf.shape[0],)) for i, x in enumerate(stacks)]
        site = at_owners(self.mesh, stacks, [split] * len(stacks), own, self.transfer_dtype)
        return replace(site, turned=turned(self.buckets, leaves))


def whole(leaf: Array | np.ndarray) -> Array:
    """Return the leaf on all devices of the Explicit mesh it lives on, if it lives on one."""
    if explicit_spec(leaf) is None:
        return jnp.asarray(leaf)
    return jax.sharding.reshard(leaf, PartitionSpec())


def home(arrays: Sequence[Array], leaves: Sequence[MatrixLeaf]) -> list[Array]:
    """Return each array where its leaf is, on the Explicit mesh it lives on; undoes `whole`."""
    specs = [explicit_spec(own.leaf) for own in leaves]
    return [
        array if spec is None else jax.sharding.reshard(array, spec)
        for array, spec in zip(arrays, specs, strict=True)
    ]
