"""How large parameters, gradients and updates are, and how far a step goes.

| reading | formula |
|---|---|
| `param_norm`, `gradient_norm`, `update_norm` | `|x|`, the root of the sum of squares |
| `param_rms`, `gradient_rms`, `update_rms` | `|x|` over the root of the number of entries |
| `update_ratio` | `log10(|update| / |param|)`; about -3 is a common rule of thumb |
| `effective_rate` | `-<update, gradient> / <gradient, gradient>`; of SGD, its learning rate |

Cost: one pass over parameters, gradients and updates.

The ratio: Karpathy, CS231n, Neural Networks Part 3. The rate is the factor by which a plain
gradient step would go as far along the gradient.
"""

import jax.numpy as jnp
from jaxtyping import Array

from .step import WatchedLeaf, WatchedStep, ratio


def sizes(step: WatchedStep) -> dict[str, Array]:
    """Return norms, root mean squares, the size of the update, and the rate it amounts to."""
    return {f"{leaf.path}/{name}": x for leaf in step.leaves for name, x in _sizes(leaf).items()}


def _sizes(leaf: WatchedLeaf) -> dict[str, Array]:
    arrays = {"param": leaf.param, "gradient": leaf.gradient, "update": leaf.update}
    squares = {name: leaf.square(x) for name, x in arrays.items() if x is not None}
    found = {f"{name}_norm": jnp.sqrt(square) for name, square in squares.items()}
    for name, square in squares.items():
        found[f"{name}_rms"] = jnp.sqrt(square / jnp.asarray(leaf.entries, square.dtype))
    if "param" in squares:
        weight, update = found["param_norm"], found["update_norm"]
        size = jnp.where(weight == 0, jnp.inf, update / jnp.where(weight == 0, 1, weight))
        found["update_ratio"] = jnp.log10(size)
    along = -leaf.product(leaf.update, leaf.gradient)
    found["effective_rate"] = ratio(along, squares["gradient"])
    return found
