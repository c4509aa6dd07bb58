"""The singular values of updates and momenta.

Of each matrix, and of the momentum that mirrors it (`momentum_...`):

| reading | formula |
|---|---|
| `update_spectrum` | the eight largest singular values, by `matrix/leading.py` |
| `update_spectral_norm` | the first of them |
| `update_stable_rank` | `|x|^2` over its square: about how many directions the update has |
| `update_orthogonality` | `|X / c - I| / sqrt(s)`, where `X` is the smaller Gram matrix, `s` its size and `c` the mean of its diagonal: 0 where all singular values are equal |

Cost: `80 m n` flops for each spectrum, and `2 m^2 n` for the orthogonality, `m <= n`, of matrices
that a rule computes. The estimates of singular values are never high, and up to a tenth low; so the
stable rank is up to a fifth high. Complex matrices are left out.

Stable rank: Rudelson and Vershynin, Sampling from large matrices, 2007.
"""  # noqa: E501

import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from ...matrix.leading import leading_values
from ...matrix.norms import largest_entry
from ...matrix.symmetric import gram
from ...xla.dtypes import wide_dtype
from .step import WatchedLeaf, WatchedStep, ratio


def spectra(step: WatchedStep) -> dict[str, Array]:
    """Return what is known of the singular values of every matrix."""
    matrices = [
        (leaf, name, array, leaf.stacks(array))
        for leaf in step.leaves
        for name, array in _matrices(leaf).items()
    ]
    stacks = [stack for *_, some in matrices for stack in some]
    values = iter(leading_values(stacks, step.key) if stacks else [])
    found = {}
    for leaf, name, array, some in matrices:
        spectrum = leaf.each([next(values) for _ in some])
        largest = spectrum[..., 0]
        found[f"{leaf.path}/{name}_spectrum"] = spectrum
        found[f"{leaf.path}/{name}_spectral_norm"] = largest
        found[f"{leaf.path}/{name}_stable_rank"] = ratio(
            ratio(leaf.square(array), largest), largest
        )
        if name == "update" and leaf.by_rule:
            error = leaf.each([_orthogonality(stack) for stack in some])
            found[f"{leaf.path}/update_orthogonality"] = error
    return found


def _matrices(leaf: WatchedLeaf) -> dict[str, Array]:
    arrays = {"update": leaf.update, "momentum": leaf.momentum}
    has_spectrum = lambda x: x is not None and leaf.axes is not None and not jnp.iscomplexobj(x)
    return {name: x for name, x in arrays.items() if has_spectrum(x)}


def _orthogonality(stack: Inexact[Array, "k m n"]) -> Float[Array, " k"]:
    """Return how far the matrices are from multiples of one with orthonormal rows or columns."""
    x = stack.astype(wide_dtype(stack.dtype))
    grams = gram(x, largest_entry(x))
    size = grams.shape[-1]
    mean = jnp.trace(grams, axis1=-2, axis2=-1)[:, None, None] / size
    error = ratio(grams, mean) - jnp.eye(size, dtype=grams.dtype)[None]
    return jnp.sqrt(jnp.sum(error**2, axis=(-2, -1)) / size)
