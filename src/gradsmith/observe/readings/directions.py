"""Where an update points.

| reading | formula |
|---|---|
| `cosine_gradient` | of the update and minus the gradient: 1 goes straight down |
| `cosine_param` | of the update and the parameter: the radial part, negative where weights shrink |
| `cosine_before` | of the update and that of the step before: negative where steps undo each other |

A cosine with zero is 0. Cost: one pass over parameters, gradients and updates, and one over the
updates of the step before.

The update before is kept as a sketch of `WIDTH` numbers a matrix, which costs no copy: entries with
random signs, added up. The cosine of two sketches is that of the updates within about
`WIDTH^(-1/2)`, 0.03; of matrices of up to `WIDTH` entries it is exact.

The sketch: Charikar, Chen and Farach-Colton, Finding frequent items in data streams, 2002. The
radial part: Heo et al., AdamP, 2021, arXiv:2006.08217.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from ...xla.dtypes import wide_dtype
from .step import Reading, WatchedLeaf, WatchedStep, cosine

WIDTH = 1024


def _read(step: WatchedStep) -> dict[str, Array]:
    found = {}
    for leaf in step.leaves:
        update = leaf.square(leaf.update)
        down = cosine(-leaf.product(leaf.update, leaf.gradient), update, leaf.square(leaf.gradient))
        found[f"{leaf.path}/cosine_gradient"] = down
        if leaf.param is not None:
            product = leaf.product(leaf.update, leaf.param)
            found[f"{leaf.path}/cosine_param"] = cosine(product, update, leaf.square(leaf.param))
        pairs = [(sketch, step.kept[name]) for name, sketch in _sketches(leaf).items()]
        found[f"{leaf.path}/cosine_before"] = leaf.each([_cosine(*pair) for pair in pairs])
    return found


def _keep(step: WatchedStep) -> dict[str, Array]:
    return {name: x for leaf in step.leaves for name, x in _sketches(leaf).items()}


directions = Reading(_read, _keep, keeps_before=True)


def _sketches(leaf: WatchedLeaf) -> dict[str, Array]:
    stacks = enumerate(leaf.stacks(leaf.update))
    return {f"{leaf.path}/update {index}": _sketch(stack) for index, stack in stacks}


def _sketch(stack: Inexact[Array, "k m n"]) -> Float[Array, "k width"]:
    """Return a few sums of the entries of every matrix, with signs that are always the same."""
    k, size = len(stack), math.prod(stack.shape[1:])
    flat = stack.astype(wide_dtype(stack.dtype)).reshape(k, size)
    if jnp.iscomplexobj(flat):
        flat, size = jnp.concatenate([flat.real, flat.imag], axis=-1), 2 * size
    if size <= WIDTH:
        return flat
    rows = -(-size // WIDTH)
    table = jnp.pad(flat, [(0, 0), (0, rows * WIDTH - size)]).reshape(k, rows, WIDTH)
    return jnp.sum(table * _signs(rows).astype(table.dtype), axis=1)


def _signs(rows: int) -> Float[Array, "1 rows width"]:
    """Return random signs: the first bit of the product of two random numbers.

    Random bits for each entry would be as large as the matrix, and stay in memory.
    """
    keys = jax.random.split(jax.random.key(0))
    down, across = jax.random.bits(keys[0], (rows, 1)), jax.random.bits(keys[1], (1, WIDTH))
    return jnp.where((down * across) >> 31 == 0, 1.0, -1.0)[None]


def _cosine(one: Float[Array, "k width"], other: Float[Array, "k width"]) -> Float[Array, " k"]:
    product, squares = jnp.sum(one * other, -1), [jnp.sum(x * x, -1) for x in (one, other)]
    return cosine(product, *squares)
