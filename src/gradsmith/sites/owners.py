"""Whole matrices, each on the one device that owns it."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh, PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array, Bool

from ..layout import axes as layout_axes
from ..layout.bucket import Bucket
from ..layout.decision_log import decision_log
from ..layout.declare import MatrixLeaf
from ..layout.gathering import dtypes, join, split, transposed
from ..xla.scopes import bucket_scope
from ..xla.trace_without_mesh import shape_without_mesh, trace_without_mesh
from .exchange import Exchange, MeshAxes, Piece
from .shards import Split, check_mesh, move, sizes_of, spec_of
from .site import Make, Members, Run

_EVERYWHERE = PartitionSpec()


@dataclass(frozen=True)
class AtOwners:
    """A site where each device computes whole matrices of its own, and talks to no other.

    Attributes:
        mesh: The mesh.
        leaf_splits: How each leaf is split.
        splits: How it is split where it enters the exchange.
        exchanges: The way of each bucket.
        buckets: Which stacks meet.
        transposed: Which matrices of each bucket come with their axes swapped; None where none
            does.
    """

    mesh: Mesh | AbstractMesh
    leaf_splits: Sequence[Split]
    splits: Sequence[Split]
    exchanges: Sequence[Exchange]
    buckets: Sequence[Bucket]
    transposed: Sequence[Bool[np.ndarray, " _"] | None]

    def init(self, make: Make, leaves: Sequence[MatrixLeaf]) -> list[Any]:
        """As `Site.init`: the state of all owners, split among them."""
        stacks = self._stacks(leaves)
        everyones = [
            jax.ShapeDtypeStruct((self._devices * x.shape[0], *x.shape[1:]), x.dtype)
            for x in stacks
        ]
        made = lambda stacks: make([Members([stack]) for stack in stacks])
        specs = self._specs_of(
            shape_without_mesh(made, stacks), shape_without_mesh(made, everyones)
        )
        run, values = trace_without_mesh(made, stacks)
        here = lambda values, arrays: run(values, self._spread(leaves, arrays))
        state = self._on_each(here, (_EVERYWHERE, self._specs), specs)(
            self._everywhere(values), self._entering(leaves)
        )
        self._write_down(state, specs)
        return state

    def update(
        self,
        run: Run,
        make: Make,
        leaves: Sequence[MatrixLeaf],
        params: Sequence[MatrixLeaf] | None,
        states: list[Any],
    ) -> tuple[list[Array], list[Any]]:
        """As `Site.update`."""
        stacks = self._stacks(leaves)
        param_stacks = None if params is None else self._stacks(params)
        small = shape_without_mesh(
            lambda stacks: make([Members([stack]) for stack in stacks]), stacks
        )
        specs = self._specs_of(small, states)
        masks = [
            None if table is None else jax.ShapeDtypeStruct(stack.shape[:1], bool)
            for table, stack in zip(self.transposed, stacks, strict=True)
        ]

        def step(stacks, param_stacks, states, masks):
            members = [Members([x], mask) for x, mask in zip(stacks, masks, strict=True)]
            theirs = None if param_stacks is None else [Members([x]) for x in param_stacks]
            outs, states = run(members, theirs, states)
            pairs = zip(outs, stacks, strict=True)
            return [out.astype(stack.dtype) for (out,), stack in pairs], states

        traced, values = trace_without_mesh(step, stacks, param_stacks, small, masks)

        def here(values, arrays, param_arrays, states):
            theirs = None if params is None else self._spread(params, param_arrays)
            outs, states = traced(
                values, self._spread(leaves, arrays), theirs, states, self._masks()
            )
            return self._collect(leaves, outs), states

        param_specs = None if params is None else self._specs
        in_specs = (_EVERYWHERE, self._specs, param_specs, specs)
        outs, states = self._on_each(here, in_specs, (self._specs, specs))(
            self._everywhere(values),
            self._entering(leaves),
            None if params is None else self._entering(params),
            jax.tree.map(lambda x, spec: move(x, spec, self.mesh), states, specs),
        )
        return [self._as_in_leaf(i, x) for i, x in enumerate(outs)], states

    @property
    def _devices(self) -> int:
        return math.prod(sizes_of(self.mesh).values())

    @property
    def _specs(self) -> list[PartitionSpec]:
        return [spec_of(split) for split in self.splits]

    def _on_each(self, f: Callable, in_specs: Any, out_specs: Any) -> Callable:
        mesh = None if not jax.sharding.get_abstract_mesh().empty else self.mesh
        # Types do not say what is equal on all devices, such as a counter: a formula may begin a
        # loop with zeros, which are, and end it with numbers of its own device, which are not.
        return jax.shard_map(f, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)

    def _stacks(self, leaves: Sequence[MatrixLeaf]) -> list[jax.ShapeDtypeStruct]:
        """Return the shapes of an owner's stacks."""
        plan = zip(self.buckets, self.exchanges, dtypes(self.buckets, leaves), strict=True)
        return [
            jax.ShapeDtypeStruct((exchange.each, *bucket.matrix_shape), dtype)
            for bucket, exchange, dtype in plan
        ]

    def _entering(self, leaves: Sequence[MatrixLeaf]) -> list[Array]:
        for leaf in leaves:
            check_mesh(leaf.array, self.mesh, f"leaf {leaf.path!r}")
        return [move(leaf.array, s, self.mesh) for leaf, s in zip(leaves, self._specs, strict=True)]

    def _as_in_leaf(self, index: int, x: Array) -> Array:
        split = self.leaf_splits[index]
        return x if split == self.splits[index] else move(x, spec_of(split), self.mesh)

    def _everywhere(self, values: Sequence[Any]) -> list[Array]:
        return [move(jnp.asarray(x), _EVERYWHERE, self.mesh) for x in values]

    def _spread(self, leaves: Sequence[MatrixLeaf], arrays: Sequence[Array]) -> list[Array]:
        stacks = split(leaves, arrays)
        plan = zip(self.buckets, self.exchanges, dtypes(self.buckets, leaves), strict=True)
        spread = []
        for bucket, exchange, dtype in plan:
            with bucket_scope([bucket.name]):
                own = [stacks[index].astype(dtype) for index in bucket.members]
                spread.append(exchange.spread(own))
        return spread

    def _masks(self) -> list[Array | None]:
        pairs = zip(self.exchanges, self.transposed, strict=True)
        return [None if table is None else exchange.mine(table) for exchange, table in pairs]

    def _collect(self, leaves: Sequence[MatrixLeaf], stacks: Sequence[Array]) -> list[Array]:
        pieces = {}
        for bucket, exchange, stack in zip(self.buckets, self.exchanges, stacks, strict=True):
            with bucket_scope([bucket.name]):
                pieces |= dict(zip(bucket.members, exchange.collect(stack), strict=True))
        share = lambda size, axes: size // math.prod(self.mesh.shape[axis] for axis in axes)
        shapes = [
            tuple(share(*pair) for pair in zip(leaf.array.shape, split, strict=True))
            for leaf, split in zip(leaves, self.splits, strict=True)
        ]
        return join(pieces, leaves, shapes)

    def _specs_of(self, small: list[Any], large: list[Any]) -> list[Any]:
        """Return how each array of a state is split: along the axis that grows with the owners.

        Args:
            small: The shapes of the state of one owner.
            large: The state, or the shapes, of all owners.

        Raises:
            ValueError: These are not the shapes for this mesh.
        """
        each = jax.tree_util.tree_map_with_path
        return [
            each(functools.partial(self._spec_of, bucket, exchange.owners), *pair)
            for bucket, exchange, *pair in zip(
                self.buckets, self.exchanges, small, large, strict=True
            )
        ]

    def _spec_of(self, bucket: Bucket, owners: MeshAxes, path: tuple, small: Any, large: Any):
        name = f"the state of bucket {bucket.name}{jax.tree_util.keystr(path)}"
        check_mesh(large, self.mesh, name)
        here, there = tuple(small.shape), tuple(np.shape(large))
        if here == there:
            return _EVERYWHERE
        for axis, size in enumerate(here):
            if there == (*here[:axis], size * self._devices, *here[axis + 1 :]):
                return PartitionSpec(*[None] * axis, owners)
        raise ValueError(
            f"{name} has shape {there}, where each of the {self._devices} devices of the mesh has "
            f"{here}: it was made by init on another mesh, or without one. Call init where the "
            f"mesh is set, or fit what you have to it by gradsmith.fit_state; if the rule mixes "
            f"matrices, say placement='replicated'"
        )

    def _write_down(self, state: list[Any], specs: list[Any]) -> None:
        arrays, splits = jax.tree.leaves(state), jax.tree.leaves(specs)
        decision_log().placed.extend(zip(arrays, splits, strict=True))


def at_owners(
    mesh: Mesh | AbstractMesh,
    leaves: Sequence[MatrixLeaf],
    splits: Sequence[Split],
    buckets: Sequence[Bucket],
    transfer_dtype: DTypeLike | None,
) -> AtOwners:
    """Plan how leaves that are split as `splits` say travel to their owners."""
    sizes = sizes_of(mesh)
    runs = [(i, run) for i, leaf in enumerate(leaves) for run in leaf.axes.runs(leaf.array.shape)]
    entering = [
        _entering_split(leaf, split, sizes) for leaf, split in zip(leaves, splits, strict=True)
    ]
    exchanges = []
    for bucket in buckets:
        first = runs[bucket.members[0]][0]
        stack = ()
        if len(bucket.members) == 1 and bucket.count % math.prod(sizes.values()) == 0:
            # A leaf that has a bucket to itself may stay split among its matrices, if evenly.
            stack = _stack_axes(leaves[first], splits[first])
            entering[first] = splits[first] if stack else entering[first]
        pieces = []
        for i, run in (runs[member] for member in bucket.members):
            sides = _sides(leaves[i], run, entering[i])
            is_transposed = run.stack_shape[1:] != bucket.matrix_shape
            rows, columns = reversed(sides) if is_transposed else sides
            pieces.append(Piece(run.stack_shape[0], rows, columns, is_transposed))
        exchanges.append(Exchange(sizes, stack, tuple(pieces), transfer_dtype))
    return AtOwners(mesh, splits, entering, exchanges, buckets, transposed(buckets, leaves))


def _entering_split(leaf: MatrixLeaf, split: Split, sizes: dict[str, int]) -> Split:
    """Return how a leaf is split where it enters the exchange, its stack and its blocks whole.

    A mesh axis that splits these in the leaf splits the widest other axis instead that it divides,
    if there is one.
    """
    batch, rows, columns = leaf.axes.sides(leaf.array.ndim)
    whole = {*batch, *_cut(leaf)}
    entering = [() if axis in whole else axes for axis, axes in enumerate(split)]
    share = lambda axis: leaf.array.shape[axis] // math.prod(sizes[name] for name in entering[axis])
    for name in itertools.chain.from_iterable(split[axis] for axis in sorted(whole)):
        room = [axis for axis in rows + columns if axis not in whole]
        room = [axis for axis in room if share(axis) % sizes[name] == 0]
        if room:
            widest = max(room, key=share)
            entering[widest] = (*entering[widest], name)
    return tuple(entering)


def _stack_axes(leaf: MatrixLeaf, split: Split) -> MeshAxes:
    """Return the mesh axes that split the matrices of a leaf in their order, if it is by them."""
    batch, _, _ = leaf.axes.sides(leaf.array.ndim)
    if not batch or _cut(leaf) or any(split[axis] for axis in batch[1:]):
        return ()
    return split[batch[0]]


def _sides(leaf: MatrixLeaf, run: layout_axes.Run, split: Split) -> tuple:
    """Return size and mesh axes of each fan-in axis and of each fan-out axis of one run."""
    _, rows, columns = leaf.axes.sides(leaf.array.ndim)
    size = lambda axis: run.shape[axis + 1] if axis in _cut(leaf) else leaf.array.shape[axis]
    return tuple(tuple((size(axis), split[axis]) for axis in side) for side in (rows, columns))


def _cut(leaf: MatrixLeaf) -> tuple[int, ...]:
    """Return the axis of the leaf that is cut into blocks, if one is."""
    return () if leaf.axes.cut_axis is None else (leaf.axes.cut_axis % leaf.array.ndim,)
