"""From a formula for stacks of matrices to a transformation of a tree.

The one road of every update: the leaves are cut into stacks, stacks that meet go where they are
computed, a kernel makes new stacks of them, and all goes back.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from ..layout.bucket import Bucket
from ..layout.decision_log import decision_log
from ..layout.declare import Axes, MatrixLeaf, matrix_leaves
from ..layout.gathering import dtypes
from ..layout.key import BucketKey
from ..layout.paths import leaves_with_path
from ..sites.placement import Placement, check_placement, check_specs, sites_of
from .kernel import Kernel, init_bucket, run_rule


class StackState(NamedTuple):
    """The state of a rule: one for each bucket, in the bucket it is computed in.

    The keys name bucket and dtype, `'12x768x3072 float32'`. The dtype is that of the parameters at
    `init`; later gradients of another dtype are converted to it, and their updates back.
    """

    buckets: dict[str, Any]


def lift(
    kernel: Kernel, *, axes: Axes = None, placement: Placement = "owners"
) -> optax.GradientTransformationExtraArgs:
    """Make a kernel a transformation of any tree of parameters."""
    check_placement(placement)

    def make(keys: Sequence[BucketKey]):
        return lambda members: [
            init_bucket(kernel, key, some) for key, some in zip(keys, members, strict=True)
        ]

    def init_fn(params: Any) -> StackState:
        leaves = matrix_leaves(axes, params)
        if not leaves:
            # A leaf, so that `optax.tree.map_params`, which calls `init` with a tree that has no
            # leaves and compares, passes over the state of a real tree as a whole.
            return StackState(jnp.zeros((), jnp.int32))  # pyright: ignore[reportArgumentType]
        check_specs(placement, params)
        states = {}
        for site, which in sites_of(placement, leaves, kernel.meets, kernel.may_stay_split):
            some = [leaves[index] for index in which]
            keys = _keys(kernel, site.buckets, some)
            _write_down(kernel, site.buckets, keys, some)
            states |= zip(map(str, keys), site.init(make(keys), some), strict=True)
        return StackState(states)

    def update_fn(updates: Any, state: Any, params: Any = None, **extra: Any):
        leaves = matrix_leaves(axes, updates)
        if not leaves:
            return updates, state
        theirs = None if params is None or kernel.reduces else _leaves_like(leaves, params)
        outs, states = dict[int, Array](), {}
        for site, which in sites_of(placement, leaves, kernel.meets, kernel.may_stay_split):
            some = [leaves[index] for index in which]
            keys = _keys_of(state, kernel, site.buckets, some)
            joined, new = site.update(
                lambda *given, keys=keys: run_rule(kernel, keys, *given, **extra),
                make(keys),
                some,
                None if theirs is None else [theirs[index] for index in which],
                [state.buckets.get(str(key), optax.EmptyState()) for key in keys],
            )
            outs |= zip(which, joined, strict=True)
            states |= zip(map(str, keys), new, strict=True)
        ordered = [outs[index] for index in range(len(leaves))]
        new_state = state if kernel.stateless else StackState(states)
        return jax.tree.unflatten(jax.tree.structure(updates), ordered), new_state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _keys(
    kernel: Kernel, buckets: Sequence[Bucket], leaves: Sequence[MatrixLeaf]
) -> list[BucketKey]:
    pairs = zip(buckets, dtypes(buckets, leaves), strict=True)
    return [bucket.key(kernel.dtype(dtype)) for bucket, dtype in pairs]


def _keys_of(
    state: StackState, kernel: Kernel, buckets: Sequence[Bucket], leaves: Sequence[MatrixLeaf]
) -> list[BucketKey]:
    """Return the keys that buckets have in a state, which tell the dtypes they had at `init`.

    Raises:
        ValueError: The state is of other parameters.
    """
    known = {key.shape_name: key for key in map(BucketKey.parse, state.buckets) if key}
    keys = _keys(kernel, buckets, leaves)
    for key in keys:
        if key.shape_name not in known and not kernel.stateless:
            raise ValueError(
                f"the state has no bucket {key.shape_name}, only {', '.join(state.buckets)}. It "
                f"was made by init for other parameters than these updates: call init(params) "
                f"again. A parameter without a gradient is masked at init too, or gets zeros"
            )
    return [known.get(key.shape_name, key) for key in keys]


def _leaves_like(leaves: Sequence[MatrixLeaf], tree: Any) -> list[MatrixLeaf]:
    """Return the leaves of `tree` at the same paths, with the same axes.

    Raises:
        ValueError: One is missing, or has another shape.
    """
    found = dict(leaves_with_path(tree))
    for own in leaves:
        if own.path not in found or np.shape(found[own.path]) != own.leaf.shape:
            what = f"shape {np.shape(found[own.path])}" if own.path in found else "no such leaf"
            raise ValueError(
                f"the updates have the leaf {own.path!r} of shape {own.leaf.shape}, and params "
                f"have {what} there; call update(updates, state, params) with trees of one "
                f"structure"
            )
    return [own._replace(leaf=found[own.path]) for own in leaves]


def _write_down(
    kernel: Kernel,
    buckets: Sequence[Bucket],
    keys: Sequence[BucketKey],
    leaves: Sequence[MatrixLeaf],
) -> None:
    """Write into the decision log who computes these matrices, and in which buckets."""
    for own in leaves:
        decision_log().steps.setdefault(own.path, []).append((kernel.name, "direction"))
        decision_log().rules.setdefault(own.path, []).append(kernel.name)
    owners = [own for own in leaves for _ in own.axes.runs(own.leaf.shape)]
    for bucket, key in zip(buckets, keys, strict=True):
        for index, count in zip(bucket.members, bucket.counts, strict=True):
            path, _, axes = owners[index]
            decision_log().axes.setdefault(path, axes)
            decision_log().buckets.setdefault(path, []).append((str(key), count))
