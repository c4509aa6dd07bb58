"""From shards of every matrix on every device to whole matrices on their owners, and back.

Everything here runs on one device, inside `jax.shard_map`. The matrices of a bucket are numbered in
the order of the tree. All owners have equally many: the first owner has the first matrices, and so
on. Where the number does not divide evenly, the last places are filled with copies of the first
matrices. So every place has an ordinary matrix. The copies are dropped on the way back.

A mesh axis has one of three parts in the exchange of a bucket:

    stack   splits the matrices among themselves: each device has some of them already
    copies  splits no leaf: all devices along it have the same, so each device computes its range
            of that, and one all-gather brings the results back
    split   splits matrices: the pieces are flattened, whatever axis they were split along, and
            travel in one all-to-all over all these axes; the owner puts them together

Where all axes split matrices, each of N devices receives `(M / N) (N - 1) / N` of M bytes of
matrices, each way. That is also the least possible, but for the copies.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Shaped

MeshAxes = tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """How the matrices of one stack are split by the mesh.

    Attributes:
        count: How many matrices it has, on all devices together.
        rows: The size of each fan-in axis, and the mesh axes that split it.
        columns: The same of each fan-out axis.
        transposed: Whether its matrices enter the bucket transposed.
    """

    count: int
    rows: tuple[tuple[int, MeshAxes], ...]
    columns: tuple[tuple[int, MeshAxes], ...]
    transposed: bool = False

    @property
    def split_by(self) -> MeshAxes:
        """The mesh axes that split its matrices."""
        return tuple(axis for _, axes in self.rows + self.columns for axis in axes)

    @property
    def form(self) -> "Piece":
        """The same for any number of matrices."""
        return Piece(0, self.rows, self.columns, self.transposed)


@dataclass(frozen=True)
class Exchange:
    """The way of one bucket to its owners and back.

    Attributes:
        sizes: The size of every mesh axis.
        stack: The mesh axes that split the matrices among themselves.
        pieces: The stacks that make the bucket, in order.
        transfer_dtype: What floating-point numbers are rounded to while they travel; None for as
            they are.
    """

    sizes: Mapping[str, int]
    stack: MeshAxes
    pieces: tuple[Piece, ...]
    transfer_dtype: DTypeLike | None = None

    @cached_property
    def split(self) -> MeshAxes:
        """The mesh axes that split the matrices of at least one piece."""
        used = {axis for piece in self.pieces for axis in piece.split_by}
        return tuple(axis for axis in self.sizes if axis in used)

    @cached_property
    def copies(self) -> MeshAxes:
        """The mesh axes that split nothing in this bucket."""
        return tuple(a for a in self.sizes if a not in self.stack and a not in self.split)

    @property
    def owners(self) -> MeshAxes:
        """The mesh axes in the order in which they number the owners."""
        return self.stack + self.copies + self.split

    @property
    def count(self) -> int:
        """How many matrices the bucket has."""
        return sum(piece.count for piece in self.pieces)

    @property
    def each(self) -> int:
        """How many matrices each owner has, copies included."""
        return math.ceil(self.count / self._size(self.owners))

    def spread(self, stacks: Sequence[Shaped[Array, "_ _ _"]]) -> Shaped[Array, "each m n"]:
        """Return the whole matrices of this owner, given this device's shards of all pieces."""
        shares = [self._share(*pair) for pair in zip(self.pieces, stacks, strict=True)]
        shares = shares[0] if len(shares) == 1 else jnp.concatenate(shares)
        shares = fill(shares, self._here)
        shares = shares.reshape(self._size(self.copies), -1, *shares.shape[1:])
        shares = lax.dynamic_index_in_dim(shares, self._index(self.copies), keepdims=False)
        shares = self._all_to_all(shares)
        return self._by_form(lambda form: self._assemble(form, shares))

    def collect(self, matrices: Shaped[Array, "each m n"]) -> list[Shaped[Array, "_ _ _"]]:
        """Return this device's shards of all pieces, given whole matrices; undoes `spread`."""
        shares = self._by_form(lambda form: self._take_apart(form, matrices), axis=1)
        shares = self._all_to_all(shares.reshape(-1, shares.shape[-1]))
        if self.copies:
            shares = self._travel(lambda x: lax.all_gather(x, self.copies, tiled=True), shares)
        stacks, start = [], 0
        for piece in self.pieces:
            count = piece.count // self._size(self.stack)
            stacks.append(self._unshare(piece, shares[start : start + count]))
            start += count
        return stacks

    def mine(self, table: Shaped[np.ndarray, " k"]) -> Shaped[Array, " each"]:
        """Return what a table says of the matrices of this owner, which says one thing of each."""
        table = np.resize(table, (self._size(self.owners), self.each))
        return lax.dynamic_index_in_dim(table, self._index(self.owners), keepdims=False)

    # A device's block of a matrix is flattened. Where a mesh axis splits other pieces of the bucket
    # but not this one, all devices along it have the same block and each sends an equal share.

    def _share(self, piece: Piece, stack: Array) -> Array:
        flat = stack.reshape(stack.shape[0], -1)
        same = self._same_along(piece)
        if not same:
            return flat
        shares = self._size(same)
        flat = jnp.pad(flat, ((0, 0), (0, -flat.shape[1] % shares)))
        flat = flat.reshape(flat.shape[0], shares, -1)
        return lax.dynamic_index_in_dim(flat, self._index(same), axis=1, keepdims=False)

    def _unshare(self, piece: Piece, shares: Array) -> Array:
        if same := self._same_along(piece):
            gather = lambda x: lax.all_gather(x, same, axis=1, tiled=True)
            shares = self._travel(gather, shares)
        m, n = (math.prod(self._local(side)) for side in (piece.rows, piece.columns))
        return shares[:, : m * n].reshape(-1, m, n)

    # An owner has, of each of its matrices, one share from every device along the axes that
    # split matrices: (split..., each, share). The two below are inverses.

    def _assemble(self, form: Piece, shares: Array) -> Array:
        same = self._same_along(form)
        rest = [axis for axis in self.split if axis not in same]
        local = self._local(form.rows + form.columns)
        shares = shares.reshape(*self._shape(self.split), self.each, -1)
        order = [self.split.index(axis) for axis in rest] + [len(self.split)]
        order += [self.split.index(axis) for axis in same] + [len(self.split) + 1]
        blocks = shares.transpose(order).reshape(*self._shape(rest), self.each, -1)
        blocks = blocks[..., : math.prod(local)].reshape(*self._shape(rest), self.each, *local)
        whole = blocks.transpose(self._interleaved(form, rest))
        m, n = (math.prod(size for size, _ in side) for side in (form.rows, form.columns))
        whole = whole.reshape(self.each, m, n)
        return whole.mT if form.transposed else whole

    def _take_apart(self, form: Piece, matrices: Array) -> Array:
        same = self._same_along(form)
        rest = [axis for axis in self.split if axis not in same]
        whole = matrices.mT if form.transposed else matrices
        shape = [self.each]
        for size, axes in form.rows + form.columns:
            shape += [*self._shape(axes), size // self._size(axes)]
        order = np.argsort(self._interleaved(form, rest)).tolist()
        blocks = whole.reshape(shape).transpose(order)
        blocks = blocks.reshape(*self._shape(rest), self.each, -1)
        pad = -blocks.shape[-1] % self._size(same)
        blocks = jnp.pad(blocks, [(0, 0)] * (blocks.ndim - 1) + [(0, pad)])
        blocks = blocks.reshape(*self._shape(rest), self.each, *self._shape(same), -1)
        places = {axis: i for i, axis in enumerate([*rest, None, *same])}
        order = [places[axis] for axis in (*self.split, None)] + [blocks.ndim - 1]
        return blocks.transpose(order).reshape(self._size(self.split), self.each, -1)

    def _interleaved(self, form: Piece, rest: Sequence[str]) -> list[int]:
        """Return the order that takes (rest..., each, local...) to each, and in-axes, out-axes."""
        order = [len(rest)]
        for place, (_, axes) in enumerate(form.rows + form.columns, start=len(rest) + 1):
            order += [*(rest.index(axis) for axis in axes), place]
        return order

    def _by_form(self, make, axis: int = 0) -> Array:
        """Return for each matrix of this owner what `make` gives for the form of its piece."""
        forms = list(dict.fromkeys(piece.form for piece in self.pieces))
        made = [make(form) for form in forms]
        if len(made) == 1:
            return made[0]
        numbers = [forms.index(piece.form) for piece in self.pieces for _ in range(piece.count)]
        which = lax.broadcast_in_dim(self.mine(np.array(numbers, np.int32)), made[0].shape, (axis,))
        return lax.select_n(which, *made) if len(made) > 2 else lax.select_n(which != 0, *made)

    def _all_to_all(self, x: Array) -> Array:
        if not self.split:
            return x
        swap = lambda x: lax.all_to_all(x, self.split, 0, 0, tiled=True)
        return self._travel(swap, x)

    def _travel(self, collective, x: Array) -> Array:
        """Apply a collective to `x` in the `transfer_dtype`."""
        dtype = x.dtype
        floats = jnp.issubdtype(dtype, jnp.floating)
        if (
            floats
            and self.transfer_dtype is not None
            and dtype.itemsize > jnp.dtype(self.transfer_dtype).itemsize
        ):
            x = x.astype(self.transfer_dtype)
        if floats and x.dtype.itemsize == 2:
            # XLA sends bfloat16 as float32 where a machine has no arithmetic for it; bits are bits.
            bits = collective(lax.bitcast_convert_type(x, jnp.uint16))
            return lax.bitcast_convert_type(bits, x.dtype).astype(dtype)
        return collective(x).astype(dtype)

    @property
    def _here(self) -> int:
        """How many matrices the devices that split no stack between them have, copies included."""
        return self.each * self._size(self.copies + self.split)

    def _same_along(self, piece: Piece) -> MeshAxes:
        """Return the mesh axes that split other pieces, and along which this one is the same."""
        return tuple(axis for axis in self.split if axis not in piece.split_by)

    def _local(self, side: Sequence[tuple[int, MeshAxes]]) -> list[int]:
        return [size // self._size(axes) for size, axes in side]

    def _shape(self, axes: Sequence[str]) -> list[int]:
        return [self.sizes[axis] for axis in axes]

    def _size(self, axes: Sequence[str]) -> int:
        return math.prod(self._shape(axes))

    def _index(self, axes: MeshAxes):
        return lax.axis_index(axes) if axes else 0


def fill(stack: Array, count: int) -> Array:
    """Return the first `count` of the matrices, beginning anew where there are not so many."""
    missing = count - stack.shape[0]
    if missing == 0:
        return stack
    again = math.ceil(missing / stack.shape[0])
    return jnp.concatenate([stack, *[stack] * again])[:count]
