"""How stale the bases of SOAP and Shampoo are, and how far they turn.

For each side, `in` and `out`, of each matrix that has a factor `L` there:

- `off_diagonal_in`: of SOAP, what of `L` is off the diagonal in its basis `Q`,
  `1 - |diag(Q^T L Q)|^2 / |L|^2`; of Shampoo, how little `L` and its root `R` commute,
  `|L R - R L|^2 / (2 |L R|^2)`. Both are 0 where the eigenvectors are those of `L`, and below 1.
- `turned_in`: the share of the space of eight vectors that has left since the reading before,
  `1 - |P^T Q|^2 / 8`; NaN in the first reading. They are the first eight of SOAP's basis, its
  largest eigenvalues; of Shampoo, about the first eight eigenvectors of `L`.

Of a matrix in blocks, the mean over its blocks. Cost: `2 m^3` flops a side of `m`, and eight
vectors kept.

The factors and bases: Gupta et al., Shampoo, 2018, arXiv:1802.09568; Vyas et al., SOAP, 2024,
arXiv:2409.11321. The spaces: Golub and Van Loan, Matrix Computations, section 6.4.3.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...layout.key import BucketKey
from ...lift.engine import StackState
from ...matrix.leading import COLUMNS, leading_spaces
from ...matrix.norms import largest_entry
from ...transforms.shampoo import ShampooState
from ...transforms.soap import SoapState
from ...xla.arithmetic import adjoint, adjoint_times, matmul
from .step import Reading, WatchedLeaf, WatchedStep, ratio


def _read(step: WatchedStep) -> dict[str, Array]:
    found = {}
    for side in _sides(step):
        turned = _turned(step.kept[side.name], _leading(side))
        found |= side.by_leaf("off_diagonal", _off_diagonal(side)) | side.by_leaf("turned", turned)
    return found


def _keep(step: WatchedStep) -> dict[str, Array]:
    return {side.name: _leading(side) for side in _sides(step)}


bases = Reading(_read, _keep)


class _Side(NamedTuple):
    """A side of all matrices of a bucket."""

    name: str
    side: str
    state: SoapState | ShampooState
    factors: Float[Array, "p n n"]
    vectors: Float[Array, "p n n"]  # the bases, or the roots
    leaves: list[tuple[WatchedLeaf, int]]  # with the number of matrices of each
    blocks: int  # of each matrix

    def by_leaf(self, name: str, values: Float[Array, " p"]) -> dict[str, Array]:
        """Return what the matrices of each leaf have; places that repeat a matrix are left out."""
        found, start = {}, 0
        for leaf, count in self.leaves:
            end = start + count * self.blocks
            part = jnp.mean(values[start:end].reshape(count, self.blocks), axis=-1)
            found[f"{leaf.path}/{name}_{self.side}"] = leaf.each([part])
            start = end
        return found


def _sides(step: WatchedStep) -> Iterator[_Side]:
    is_lifted = lambda node: isinstance(node, StackState)
    nodes = jax.tree_util.tree_leaves_with_path(step.state, is_leaf=is_lifted)
    for path, lifted in nodes:
        if not is_lifted(lifted) or not isinstance(lifted.buckets, dict):
            continue
        groups = {getattr(entry, "key", None) for entry in path}
        leaves = [x for x in step.leaves if x.by_rule and (x.group is None or x.group in groups)]
        for text, bucket in lifted.buckets.items():
            key = BucketKey.parse(text)
            members = [(leaf, k) for leaf in leaves for k in [_matrices(leaf, key)] if k]
            if key is not None and sum(k for _, k in members) == key.matrices:
                yield from _sides_of(jax.tree_util.keystr(path) + text, key, bucket, members)


def _matrices(leaf: WatchedLeaf, key: BucketKey | None) -> int:
    """Return how many matrices of the leaf are in the bucket."""
    runs = leaf.axes.runs(leaf.update.shape) if leaf.axes else ()
    shapes = [run.stack_shape for run in runs]
    return sum(k for k, m, n in shapes if key is not None and (m, n) == key.matrix_shape)


def _sides_of(name: str, key: BucketKey, bucket: Any, members: list) -> Iterator[_Side]:
    is_kron = lambda node: isinstance(node, SoapState | ShampooState)
    for node in filter(is_kron, jax.tree.leaves(bucket, is_leaf=is_kron)):
        shown = node.adam.mu if isinstance(node, SoapState) else node.mean
        vectors = node.bases if isinstance(node, SoapState) else node.roots
        lengths = zip(key.matrix_shape, shown.shape[1:], strict=True)
        down, across = (-(-whole // part) for whole, part in lengths)
        for side in ("in", "out"):
            factors, v = (getattr(pair, f"fan_{side}") for pair in (node.factors, vectors))
            if factors is not None:
                yield _Side(f"{name} {side}", side, node, factors, v, members, down * across)


def _off_diagonal(side: _Side) -> Float[Array, " p"]:
    factors = side.factors / largest_entry(side.factors).astype(side.factors.dtype)
    if isinstance(side.state, SoapState):
        rotated = adjoint_times(side.vectors, factors)
        diagonal = jnp.sum(rotated * side.vectors.mT, axis=-1).real
        on = jnp.sum(diagonal**2, axis=-1)
        return ratio(_square(factors) - on, _square(factors))
    product = matmul(factors, side.vectors / largest_entry(side.vectors).astype(factors.dtype))
    return ratio(_square(product - adjoint(product)), 2 * _square(product))


def _square(x: Array) -> Float[Array, " p"]:
    return jnp.sum(jnp.square(jnp.abs(x)), axis=(-2, -1))


def _leading(side: _Side) -> Array:
    """Return the vectors of every matrix once, whatever the mesh."""
    count = side.blocks * sum(matrices for _, matrices in side.leaves)
    if isinstance(side.state, SoapState):
        return side.vectors[:count, :, :COLUMNS]
    (space,) = leading_spaces([side.factors], jax.random.key(0))
    return space[:count]


def _turned(before: Array, now: Array) -> Float[Array, " p"]:
    columns = min(now.shape[-2:])
    left = 1 - _square(adjoint_times(before, now)) / columns
    return jnp.where(_square(before) == 0, jnp.nan, left)
