"""From shards of every matrix on every device to whole matrices on their owners, and back.

Everything here runs on one device, inside `jax.shard_map`. The matrices of a bucket are numbered in
the order of the tree. All owners have equally many: the first owner has the first matrices, and so
on. Where the number does not divide evenly, the last places are filled with copies of the first
matrices. So every place has an ordinary matrix. The copies are dropped on the way back.

A mesh axis has one of three parts in the exchange of a bucket:

    stack   splits the matrices among themselves: each device has some of them already
    copies  splits no leaf: all devices along it have the same, so each device computes its range
            of that, and one all-gather brings the results back
    split   splits matrices: the blocks travel in one all-to-all over all these axes, whatever
            axis they were split along, and the owner puts them together

So that blocks of different shapes can travel together, each is divided in vertical strips of one
width, the widest that divides them all, and its strips lie one below the other. Blocks of one shape
are one strip each, and stay as they are. A narrower strip would cost more where several rows and
columns lie together in memory: flattening a block may take ten times as long as multiplying it.

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

from ..xla.order import once

MeshAxes = tuple[str, ...]


@dataclass(frozen=True)
class Piece:
    """How the matrices of one stack are split by the mesh, as they lie in the bucket.

    Attributes:
        count: How many matrices it has, on all devices together.
        rows: The size of each axis that makes rows, and the mesh axes that split it.
        columns: The same of each axis that makes columns.
        transposed: Whether its matrices are turned to lie so.
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
        """The same for any number of matrices that lie in the bucket."""
        return Piece(0, self.rows, self.columns)


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
        shares = self._all_to_all(shares.reshape(-1, *shares.shape[2:]))
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

    # Where a mesh axis splits other pieces of the bucket but not this one, all devices along it
    # have the same block and each sends an equal share of its strips.

    def _share(self, piece: Piece, stack: Array) -> Array:
        strips = self._in_strips(stack.mT if piece.transposed else stack)
        same = self._same_along(piece)
        if not same:
            return strips
        shares = _cut_evenly(strips, self._size(same), axis=1)
        return lax.dynamic_index_in_dim(shares, self._index(same), axis=1, keepdims=False)

    def _unshare(self, piece: Piece, shares: Array) -> Array:
        if same := self._same_along(piece):
            gather = lambda x: lax.all_gather(x, same, axis=1, tiled=True)
            shares = self._travel(gather, shares)
        block = self._out_of_strips(piece, shares)
        return block.mT if piece.transposed else block

    # An owner has, of each of its matrices, one share from every device along the axes that
    # split matrices: (split..., each, share). The two below are inverses.

    def _assemble(self, form: Piece, shares: Array) -> Array:
        same = self._same_along(form)
        rest = [axis for axis in self.split if axis not in same]
        shares = shares.reshape(*self._shape(self.split), self.each, *shares.shape[1:])
        count = len(self.split)
        order = [self.split.index(axis) for axis in rest] + [count]
        order += [self.split.index(axis) for axis in same] + [count + 1, count + 2]
        strips = shares.transpose(order).reshape(*self._shape(rest), self.each, -1, self._width)
        blocks = self._out_of_strips(form, strips)
        blocks = blocks.reshape(*blocks.shape[:-2], *self._local(form.rows + form.columns))
        whole = blocks.transpose(self._interleaved(form, rest))
        m, n = (math.prod(size for size, _ in side) for side in (form.rows, form.columns))
        return whole.reshape(self.each, m, n)

    def _take_apart(self, form: Piece, matrices: Array) -> Array:
        same = self._same_along(form)
        rest = [axis for axis in self.split if axis not in same]
        shape = [self.each]
        for size, axes in form.rows + form.columns:
            shape += [*self._shape(axes), size // self._size(axes)]
        order = np.argsort(self._interleaved(form, rest)).tolist()
        blocks = matrices.reshape(shape).transpose(order)
        blocks = blocks.reshape(*self._shape(rest), self.each, *self._block(form))
        shares = _cut_evenly(self._in_strips(blocks), self._size(same), axis=len(rest) + 1)
        strip = shares.shape[-2:]
        shares = shares.reshape(*self._shape(rest), self.each, *self._shape(same), *strip)
        places = {axis: i for i, axis in enumerate([*rest, None, *same])}
        order = [places[axis] for axis in (*self.split, None)] + [shares.ndim - 2, shares.ndim - 1]
        shares = shares.transpose(order)
        return shares.reshape(self._size(self.split), self.each, *strip)

    @cached_property
    def _width(self) -> int:
        """The columns of a strip."""
        return math.gcd(*(self._block(piece)[1] for piece in self.pieces))

    def _in_strips(self, blocks: Array) -> Array:
        *lead, m, n = blocks.shape
        strips = blocks.reshape(*lead, m, n // self._width, self._width).swapaxes(-3, -2)
        return strips.reshape(*lead, -1, self._width)

    def _out_of_strips(self, piece: Piece, strips: Array) -> Array:
        """Return the blocks; undoes `_in_strips`, and drops what stands below."""
        m, n = self._block(piece)
        lead, count = strips.shape[:-2], n // self._width
        strips = strips[..., : count * m, :].reshape(*lead, count, m, self._width)
        return strips.swapaxes(-3, -2).reshape(*lead, m, n)

    def _block(self, piece: Piece) -> tuple[int, int]:
        """Return the shape of the block of a matrix that a device has."""
        rows, columns = (math.prod(self._local(side)) for side in (piece.rows, piece.columns))
        return rows, columns

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
        which = which if len(made) > 2 else which != 0
        return once(lax.select_n(which, *made))

    def _all_to_all(self, x: Array) -> Array:
        if not self.split:
            return x
        swap = lambda x: lax.all_to_all(once(x), self.split, 0, 0, tiled=True)
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


def _cut_evenly(x: Array, count: int, axis: int) -> Array:
    """Return `x` with an axis in `count` equal parts, `(count, part)`, filled up with zeros."""
    pad = [(0, 0)] * x.ndim
    pad[axis] = (0, -x.shape[axis] % count)
    return jnp.pad(x, pad).reshape(*x.shape[:axis], count, -1, *x.shape[axis + 1 :])
