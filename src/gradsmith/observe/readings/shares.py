"""Shares of the entries that something happens to.

| reading | share of the entries |
|---|---|
| `zero` | whose update is zero |
| `changed` | whose update is not their gradient: those that a clip has clipped, if the clip is watched |
| `uphill` | whose update has the sign of their gradient: those that a cautious optimizer masks |
| `outward` | whose update moves them away from zero: those that cautious decay leaves alone |
| `mu_still`, `trace_still`, ... | of an array of the state that the step did not change: a momentum that 16 bits can no longer move |

Cost: one pass over parameters, gradients and updates. What is still is told by a sample of up to
`SAMPLED` entries a matrix, which is kept since the step before.

Masks: Liang et al., Cautious Optimizers, 2024, arXiv:2411.16085; Chen et al., Cautious Weight
Decay, 2025, arXiv:2510.12402. That averages of few bits stop: Zamirai et al., Revisiting bfloat16
training, 2020, arXiv:2010.06192.
"""  # noqa: E501

import jax.numpy as jnp
from jaxtyping import Array

from ...xla.dtypes import wide_dtype
from .step import Reading, WatchedLeaf, WatchedStep


def _read(step: WatchedStep) -> dict[str, Array]:
    found = {}
    for leaf in step.leaves:
        found[f"{leaf.path}/zero"] = jnp.maximum(1 - leaf.mean(jnp.abs(jnp.sign(leaf.update))), 0)
        moved = leaf.update - leaf.gradient.astype(leaf.update.dtype)
        found[f"{leaf.path}/changed"] = leaf.mean(jnp.abs(jnp.sign(moved)))
        found[f"{leaf.path}/uphill"] = _same_sign(leaf, leaf.gradient)
        if leaf.param is not None:
            found[f"{leaf.path}/outward"] = _same_sign(leaf, leaf.param)
        for field, array in leaf.state.items():
            now = leaf.samples(field, array)
            same = [jnp.mean(x == step.kept[name], -1, jnp.float32) for name, x in now.items()]
            found[f"{leaf.path}/{field}_still"] = leaf.each(same)
    return found


def _same_sign(leaf: WatchedLeaf, array: Array) -> Array:
    """Return the share of entries whose update has the sign of the array.

    XLA for CPUs would keep in memory, in the size of the leaf, a mask, which is why this is by
    signs; a constant; and the plain product, which another reading sums.
    """
    update, array = (x.astype(wide_dtype(x.dtype)) for x in (leaf.update, array))
    sign = jnp.sign((update * jnp.sign(array).conj()).real)
    return leaf.mean(sign + jnp.abs(sign)) / 2


def _keep(step: WatchedStep) -> dict[str, Array]:
    kept = {}
    for leaf in step.leaves:
        for field, array in leaf.state.items():
            kept |= leaf.samples(field, array)
    return kept


shares = Reading(_read, _keep, keeps_before=True)
