"""Where an update points.

| reading | formula |
|---|---|
| `cosine_gradient` | of the update and minus the gradient: 1 goes straight down |
| `cosine_param` | of the update and the parameter: the radial part, negative where weights shrink |
| `cosine_before` | of the update and that of the step before: below 0, they undo each other |

A cosine with zero is 0. Cost: one pass over parameters, gradients and updates.

Of the update before, a sample is kept instead of a copy (`sample` in `step.py`). So the last cosine
is exact for matrices of up to `SAMPLED` entries, and else within about `SAMPLED^(-1/2)`, 0.03. An
update that is zero nearly everywhere, as that of an embedding may be, is told by few entries.

The radial part: Heo et al., AdamP, 2021, arXiv:2006.08217.
"""

import jax.numpy as jnp
from jaxtyping import Array, Inexact

from ...xla.dtypes import wide_dtype
from .step import Reading, WatchedStep, cosine


def _read(step: WatchedStep) -> dict[str, Array]:
    found = {}
    for leaf in step.leaves:
        update = leaf.square(leaf.update)
        down = cosine(-leaf.product(leaf.update, leaf.gradient), update, leaf.square(leaf.gradient))
        found[f"{leaf.path}/cosine_gradient"] = down
        if leaf.param is not None:
            product = leaf.product(leaf.update, leaf.param)
            found[f"{leaf.path}/cosine_param"] = cosine(product, update, leaf.square(leaf.param))
        pairs = [(x, step.kept[name]) for name, x in leaf.samples("update", leaf.update).items()]
        found[f"{leaf.path}/cosine_before"] = leaf.each([_cosine(*pair) for pair in pairs])
    return found


def _keep(step: WatchedStep) -> dict[str, Array]:
    samples = [leaf.samples("update", leaf.update) for leaf in step.leaves]
    return {name: sample for some in samples for name, sample in some.items()}


directions = Reading(_read, _keep, keeps_before=True)


def _cosine(one: Inexact[Array, "k samples"], other: Inexact[Array, "k samples"]) -> Array:
    one, other = (x.astype(wide_dtype(x.dtype)) for x in (one, other))
    product = jnp.sum((one * other.conj()).real, axis=-1)
    squares = [jnp.sum(jnp.square(jnp.abs(x)), axis=-1) for x in (one, other)]
    return cosine(product, *squares)
