"""The leading singular values of large matrices, by a few products with thin random ones.

Of a matrix `x` only products with `COLUMNS` vectors are computed. They are made orthonormal by the
eigenvectors of their small Gram matrices, those of all matrices of a model at once: a chain of
small steps for each of two hundred matrices would take an accelerator longer than an update.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..xla.arithmetic import adjoint_times, matmul
from ..xla.dtypes import common_dtype, wide_dtype
from .jacobi import small_eigh
from .norms import largest_entry

COLUMNS = 8
ROUNDS = 2
FLOPS = 2 * (2 * ROUNDS + 1) * COLUMNS
"""Of the products with a matrix, for each of its entries."""


def leading_values(
    stacks: Sequence[Float[Array, "k m n"]], key: PRNGKeyArray
) -> list[Float[Array, "k columns"]]:
    """Return estimates of the `COLUMNS` largest singular values of every matrix, largest first.

    No estimate is above the true value, but for round-off. Of a spectrum that falls off, and of one
    that is constant, they are close; of a Gaussian matrix a tenth low. What is below `1e-3` of the
    largest is lost to round-off. Costs `80 m n` flops a matrix.

    Args:
        stacks: Real matrices; zeros have zeros.
        key: Of the random vectors.

    References:
        Halko, Martinsson and Tropp, Finding structure with randomness, 2011, arXiv:0909.4061.
    """
    grams, scales = [], []
    for x, block in zip(stacks, _right_spaces(stacks, key), strict=True):
        image = _times(x, block)
        grams.append(adjoint_times(image, image))
        scales.append(largest_entry(x)[..., 0].astype(image.dtype))
    found = [jnp.sqrt(jnp.maximum(values, 0)) for values, _ in _eigh_of_all(grams)]
    ordered = [jnp.sort(values, axis=-1, descending=True) for values in found]
    return [values * scale for values, scale in zip(ordered, scales, strict=True)]


def leading_spaces(
    stacks: Sequence[Float[Array, "k n n"]], key: PRNGKeyArray
) -> list[Float[Array, "k n columns"]]:
    """Return orthonormal vectors that span about the leading eigenspaces of symmetric matrices.

    The same matrix and key give the same space. Costs `64 n^2` flops a matrix.
    """
    return _right_spaces(stacks, key)


def _right_spaces(stacks: Sequence[Array], key: PRNGKeyArray) -> list[Array]:
    """Return orthonormal vectors that span about the leading right singular vectors."""
    blocks = []
    for index, x in enumerate(stacks):
        shape = (x.shape[-1], COLUMNS)
        start = jax.random.normal(jax.random.fold_in(key, index), shape, wide_dtype(x.dtype))
        blocks.append(jnp.broadcast_to(start, (*x.shape[:-2], *shape)))
    for _ in range(ROUNDS):
        images = [_times(x, block) for x, block in zip(stacks, blocks, strict=True)]
        images = zip(stacks, _orthonormal(images), strict=True)
        blocks = _orthonormal([_adjoint_times(x, image) for x, image in images])
    return blocks


def _times(x: Array, block: Array) -> Array:
    """Return `x @ block` over the largest entry of `x`, so that its squares are numbers."""
    return matmul(x.astype(block.dtype), block) / largest_entry(x).astype(block.dtype)


def _adjoint_times(x: Array, block: Array) -> Array:
    return adjoint_times(x.astype(block.dtype), block) / largest_entry(x).astype(block.dtype)


def _orthonormal(blocks: Sequence[Array]) -> list[Array]:
    """Return orthonormal vectors of the span of every block; zeros where it has fewer of them."""
    eigen = _eigh_of_all([adjoint_times(block, block) for block in blocks])
    return [
        matmul(block, vectors * _inverse_root(values)[..., None, :])
        for block, (values, vectors) in zip(blocks, eigen, strict=True)
    ]


def _inverse_root(values: Array) -> Array:
    """Return `values^(-1/2)`; 0 of what may be round-off."""
    least = 8 * jnp.finfo(values.dtype).eps * jnp.max(values, axis=-1, keepdims=True)
    is_more = (values > least) & (values > 0)
    return jnp.where(is_more, 1 / jnp.sqrt(jnp.where(is_more, values, 1)), 0)


def _eigh_of_all(grams: Sequence[Array]) -> list[tuple[Array, Array]]:
    """Return eigenvalues and eigenvectors of small matrices, of all stacks in one go."""
    dtype = common_dtype(*(gram.dtype for gram in grams))
    values, vectors = small_eigh(jnp.concatenate([gram.astype(dtype) for gram in grams]))
    found, start = [], 0
    for gram in grams:
        part = slice(start, start + len(gram))
        found.append((values[part].astype(gram.dtype), vectors[part].astype(gram.dtype)))
        start += len(gram)
    return found
