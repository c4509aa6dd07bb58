"""The leading singular values of large matrices, by a few products with thin random ones.

Of a matrix `x` only products with `COLUMNS` vectors are computed. They are made orthonormal by the
eigenvectors of their small Gram matrices, those of all matrices of a model at once: a chain of
small steps for each of two hundred matrices would take longer than an update.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..xla.arithmetic import adjoint_times, matmul
from ..xla.dtypes import common_dtype, wide_dtype
from .jacobi import small_eigh
from .norms import largest_entry

COLUMNS = 8
ROUNDS = 2


def leading_values(
    stacks: Sequence[Float[Array, "_ _ _"]], key: PRNGKeyArray
) -> list[Float[Array, "_ columns"]]:
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
    groups = _by_shape(stacks)
    images = [
        _scaled(_times(some, x)) for some, x in zip(groups, _spaces(groups, key), strict=True)
    ]
    eigen = _eigh_of_all([adjoint_times(image, image) for image, _ in images])
    found = [jnp.sqrt(jnp.maximum(values, 0)) for values, _ in eigen]
    ordered = [jnp.sort(values, axis=-1, descending=True) for values in found]
    whole = [values * scale[..., 0] for values, (_, scale) in zip(ordered, images, strict=True)]
    return _in_order(groups, whole, len(stacks))


def leading_spaces(
    stacks: Sequence[Float[Array, "_ _ _"]], key: PRNGKeyArray
) -> list[Float[Array, "_ _ columns"]]:
    """Return orthonormal vectors that span about the leading eigenspaces of symmetric matrices.

    The same matrix and key give the same space. Costs `64 n^2` flops a matrix.
    """
    groups = _by_shape(stacks)
    return _in_order(groups, _spaces(groups, key), len(stacks))


class _Group(NamedTuple):
    """Stacks of matrices of one shape. What is thin is kept as one array for all of them."""

    members: list[int]
    stacks: list[Array]

    def split(self, thin: Array) -> list[Array]:
        """Return what belongs to each stack."""
        ends = np.cumsum([len(x) for x in self.stacks]).tolist()
        return [thin[end - len(x) : end] for x, end in zip(self.stacks, ends, strict=True)]


def _by_shape(stacks: Sequence[Array]) -> list[_Group]:
    groups: dict[Any, _Group] = {}
    for index, x in enumerate(stacks):
        group = groups.setdefault((*x.shape[1:], x.dtype), _Group([], []))
        group.members.append(index)
        group.stacks.append(x)
    return list(groups.values())


def _in_order(groups: Sequence[_Group], thin: Sequence[Array], count: int) -> list[Array]:
    """Return what belongs to each of the stacks that the groups were made of."""
    parts = {}
    for group, whole in zip(groups, thin, strict=True):
        parts |= zip(group.members, group.split(whole), strict=True)
    return [parts[index] for index in range(count)]


def _spaces(groups: Sequence[_Group], key: PRNGKeyArray) -> list[Array]:
    """Return orthonormal vectors that span about the leading right singular vectors."""
    blocks = [_start(group, key) for group in groups]
    for _ in range(ROUNDS):
        for side in (_times, _adjoint_times):
            images = [side(group, block) for group, block in zip(groups, blocks, strict=True)]
            blocks = _orthonormal([_scaled(image)[0] for image in images])
    return blocks


def _start(group: _Group, key: PRNGKeyArray) -> Array:
    """Return random vectors, the same for all matrices of the group."""
    n, dtype = group.stacks[0].shape[-1], wide_dtype(group.stacks[0].dtype)
    count = sum(len(x) for x in group.stacks)
    return jnp.broadcast_to(jax.random.normal(key, (n, COLUMNS), dtype), (count, n, COLUMNS))


def _times(group: _Group, block: Array) -> Array:
    pairs = zip(group.stacks, group.split(block), strict=True)
    return jnp.concatenate([matmul(x.astype(part.dtype), part) for x, part in pairs])


def _adjoint_times(group: _Group, block: Array) -> Array:
    pairs = zip(group.stacks, group.split(block), strict=True)
    return jnp.concatenate([adjoint_times(x.astype(part.dtype), part) for x, part in pairs])


def _scaled(block: Array) -> tuple[Array, Array]:
    """Return a block over its largest entry, whose squares are numbers, and that entry."""
    scale = largest_entry(block).astype(block.dtype)
    return block / scale, scale


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
