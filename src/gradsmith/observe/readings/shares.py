"""Shares of the entries that something happens to.

| reading | share of the entries |
|---|---|
| `zero` | whose update is zero |
| `changed` | whose update is not their gradient: those that a clip has clipped, if the clip is watched |
| `uphill` | whose update has the sign of their gradient: those that a cautious optimizer masks |
| `outward` | whose update moves them away from zero: those that cautious decay leaves alone |
| `mu_still`, `trace_still`, ... | of an array of the state that the step did not change: a momentum that 16 bits can no longer move |

Cost: one pass over parameters, gradients and updates. What is still is told by up to `SAMPLED`
entries along each axis, evenly spread, which are kept since the step before.

Masks: Liang et al., Cautious Optimizers, 2024, arXiv:2411.16085; Chen et al., Cautious Weight
Decay, 2025, arXiv:2510.12402. That averages of few bits stop: Zamirai et al., Revisiting bfloat16
training, 2020, arXiv:2010.06192.
"""  # noqa: E501

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from .step import Reading, WatchedLeaf, WatchedStep

SAMPLED = 32


def _read(step: WatchedStep) -> dict[str, Array]:
    found = {}
    for leaf in step.leaves:
        same_sign = lambda x, leaf=leaf: leaf.mean((leaf.update * x.conj()).real > 0)
        found[f"{leaf.path}/zero"] = leaf.mean(leaf.update == 0)
        found[f"{leaf.path}/changed"] = leaf.mean(leaf.update != leaf.gradient)
        found[f"{leaf.path}/uphill"] = same_sign(leaf.gradient)
        if leaf.param is not None:
            found[f"{leaf.path}/outward"] = same_sign(leaf.param)
        for name, sample in _samples(leaf).items():
            found[f"{name}_still"] = jnp.mean(sample == step.kept[name], dtype=jnp.float32)
    return found


def _keep(step: WatchedStep) -> dict[str, Array]:
    return {name: x for leaf in step.leaves for name, x in _samples(leaf).items()}


shares = Reading(_read, _keep, keeps_before=True)


def _samples(leaf: WatchedLeaf) -> dict[str, Array]:
    return {f"{leaf.path}/{name}": _sample(array) for name, array in leaf.state.items()}


def _sample(array: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    strides = [max(1, -(-size // SAMPLED)) for size in array.shape]
    return jax.lax.slice(array, (0,) * array.ndim, array.shape, strides)
