"""Show what an optimizer will do with every leaf of a model, before it does it."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import optax
from rich import box
from rich.console import Console, ConsoleOptions
from rich.filesize import decimal
from rich.measure import Measurement
from rich.table import Table

from ..layout.decision_log import DecisionLog
from ..layout.paths import arrays, longest_suffix, path_name
from ..lift.per_stack import StackState
from ..transforms.sides import remark_on_order
from .state_shardings import bytes_on_device, mesh_of_params, state_shapes


@dataclasses.dataclass(frozen=True)
class LeafDescription:
    """One leaf: what it is taken for and why, how it is cut, who optimizes it, what that holds."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    role: str
    why: str
    axes: str
    buckets: tuple[str, ...]
    optimizer: str
    state_bytes: int
    replicated_bytes: int  # of these, what every device of a mesh holds


@dataclasses.dataclass(frozen=True)
class Description:
    """What `describe` found: a table when printed, and data for programs.

    Attributes:
        leaves: One entry a leaf, in the order of the tree.
        shared_state_bytes: State that belongs to no leaf, such as step counters; on a mesh it is
            replicated.
        remarks: Where gradsmith's own parts stand in an order that cannot mean anything, and why;
            and which leaves of rank 2 are vectors by their names.
        mesh: The sizes of the axes of the mesh that the parameters lie on; empty without one.
        device_state_bytes: The state that each device holds.
    """

    leaves: tuple[LeafDescription, ...]
    shared_state_bytes: int
    remarks: tuple[str, ...]
    mesh: dict[str, int]
    device_state_bytes: int

    def to_json(self) -> str:
        """Return everything in the table as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    def __str__(self) -> str:
        console = Console(width=_WIDE, color_system=None)
        with console.capture() as capture:
            console.print(self)
        return "\n".join(line.rstrip() for line in capture.get().splitlines())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | str]:
        """Print all columns that fit, and those that tell the routing in any case."""
        columns = list(_COLUMNS)
        table = self._table(columns)
        for title in _DISPENSABLE:
            if (
                Measurement.get(console, options.update(width=_WIDE), table).maximum
                > options.max_width
            ):
                columns.remove(title)
                table = self._table(columns)
        yield table
        yield from self.remarks

    def _table(self, columns: list[str]) -> Table:
        params = sum(math.prod(leaf.shape) for leaf in self.leaves)
        state = self.shared_state_bytes + sum(leaf.state_bytes for leaf in self.leaves)
        buckets = {bucket for leaf in self.leaves for bucket in leaf.buckets}
        hidden = [title for title in _COLUMNS if title not in columns]
        table = Table(
            box=box.SIMPLE_HEAD,
            caption=f"{len(self.leaves)} leaves, {params:,} parameters, {len(buckets)} buckets; "
            f"state {decimal(state)}, {decimal(self.shared_state_bytes)} of it in counters"
            + self._on_mesh()
            + (f" (a wider terminal shows {', '.join(hidden)})" if hidden else ""),
            caption_justify="left",
        )
        for title in columns:
            table.add_column(
                title, overflow="fold", justify="right" if title == "state" else "left"
            )
        for leaf in self.leaves:
            table.add_row(*(_COLUMNS[title](leaf) for title in columns))
        return table

    def _on_mesh(self) -> str:
        if not self.mesh:
            return ""
        replicated = self.shared_state_bytes + sum(leaf.replicated_bytes for leaf in self.leaves)
        mesh = ", ".join(f"{axis}={size}" for axis, size in self.mesh.items())
        return (
            f"; on each device of {mesh} {decimal(self.device_state_bytes)}, "
            f"{decimal(replicated)} of it replicated"
        )


_WIDE = 200  # columns of a printed description; a terminal gets its own width through rich

_COLUMNS: dict[str, Callable[[LeafDescription], str]] = {
    "leaf": lambda leaf: leaf.path,
    "shape": lambda leaf: f"{leaf.dtype} {leaf.shape}",
    "role": lambda leaf: leaf.role,
    "why": lambda leaf: leaf.why,
    "axes": lambda leaf: leaf.axes,
    "bucket": lambda leaf: "\n".join(leaf.buckets),
    "optimizer": lambda leaf: leaf.optimizer,
    "state": lambda leaf: (
        decimal(leaf.state_bytes)
        + (f", {decimal(leaf.replicated_bytes)} replicated" if leaf.replicated_bytes else "")
    ),
}
_DISPENSABLE = ("bucket", "state", "axes", "shape")  # where a terminal is narrow, in this order


def describe(tx: optax.GradientTransformation, params: Any) -> Description:
    """Return a table of every leaf: role and why, axes, bucket, who optimizes it, state bytes.

    Works for any chain: runs `tx.init` on abstract values, so a model of any size costs no memory.
    Roles and buckets are those that `partition_by_role` and `per_stack` really decide; a leaf that
    neither meets shows the state that other transformations keep for it. Parts of gradsmith that
    stand on the wrong side of a `gradsmith.scale_by_learning_rate` are remarked on.

    An optimizer is told as `group: parts`: the groups of `optax.partition`, the parts that keep a
    state for the leaf, and `rule` where the leaf joins a bucket and a rule for matrices sees it.

    Where parameters lie on a mesh, it says what each device holds and what all of them hold, if the
    state is placed by `state_shardings`.

    Args:
        tx: The whole optimizer.
        params: The parameters, or their shapes (`jax.eval_shape`), on a mesh with `NamedSharding`;
            what is no array is left out.

    Raises:
        ValueError: What `tx.init` raises, such as an ambiguous leaf; or parameters lie on different
            meshes.

    Examples:
        >>> import jax.numpy as jnp
        >>> import gradsmith as gs
        >>> params = {"dense": {"kernel": jnp.zeros((64, 256)), "bias": jnp.zeros(256)}}
        >>> for leaf in gs.describe(gs.muon(0.02), params).leaves:
        ...     print(leaf.path, "|", leaf.role, "|", leaf.optimizer, "|", leaf.state_bytes)
        dense/bias | vector | others: adam | 2048
        dense/kernel | matrix | matrices: momentum, rule | 65536
    """
    params = arrays(params)
    mesh = mesh_of_params(params)
    state, log = state_shapes(tx, params)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    held, shared = _attribute(state, [path for path, _ in leaves], log)
    return Description(
        tuple(
            LeafDescription(
                path=(name := path_name(path)),
                shape=tuple(leaf.shape),
                dtype=leaf.dtype.name,
                role=log.roles[name].name if name in log.roles else "",
                why=log.roles[name].why if name in log.roles else "",
                axes=_axes(log, name, len(leaf.shape)),
                buckets=tuple(dict.fromkeys(key for key, _ in log.buckets.get(name, ()))),
                optimizer=_optimizer(log, name, held[name].keepers),
                state_bytes=held[name].size,
                replicated_bytes=held[name].replicated,
            )
            for path, leaf in leaves
        ),
        shared,
        _remarks(log),
        {} if mesh is None else dict(mesh.shape),
        bytes_on_device(state),
    )


def _remarks(log: DecisionLog) -> tuple[str, ...]:
    """Return what to look at, each with the leaves it holds for."""
    leaves: dict[str, list[str]] = {}
    for path, steps in log.steps.items():
        if (remark := remark_on_order(steps)) is not None:
            leaves.setdefault(remark, []).append(path)
    for path, remark in log.remarks.items():
        leaves.setdefault(remark, []).append(path)
    others = lambda paths: f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return tuple(f"{paths[0]}{others(paths)}: {remark}" for remark, paths in leaves.items())


class _Kept(NamedTuple):
    """An array of a state: where, who keeps it, and in which bucket if a rule does."""

    path: tuple
    size: int
    replicated: bool
    keeper: str
    bucket: str | None


def _kept(node: Any, path: tuple = (), keeper: str = "", bucket: str | None = None) -> Iterator:
    children = jax.tree_util.tree_leaves_with_path(node, is_leaf=lambda x: x is not node)
    if children and children[0][0] == ():
        size = math.prod(node.shape) * node.dtype.itemsize
        replicated = node.sharding is not None and node.sharding.is_fully_replicated
        yield _Kept(path, size, replicated, keeper, bucket)
        return
    if hasattr(node, "_fields"):
        keeper = type(node).__name__.removesuffix("State").removeprefix("ScaleBy").lower()
    if isinstance(node, StackState) and isinstance(node.buckets, dict):
        for key, child in node.buckets.items():
            yield from _kept(child, path, keeper, bucket=key)
        return
    for key, child in children:
        yield from _kept(child, path + key, keeper, bucket)


@dataclasses.dataclass
class _Held:
    """What states keep for one leaf: who does, how many bytes, how many of them replicated."""

    keepers: list[str] = dataclasses.field(default_factory=list)
    size: int = 0
    replicated: int = 0

    def add(self, size: int, replicated: bool) -> None:
        self.size += size
        self.replicated += size if replicated else 0


def _attribute(state: Any, params: list[tuple], log: DecisionLog) -> tuple[dict[str, _Held], int]:
    """Say of each leaf what is kept for it; and how many bytes are kept for none.

    An array of the state belongs to a leaf when its path ends with the leaf's path, as the moments
    of Adam do; what a rule keeps belongs to the leaves of its bucket, by their share of matrices.
    """
    names = {path: path_name(path) for path in params}
    held = {name: _Held() for name in names.values()}
    shared = 0
    members: dict[str, list[tuple[str, int]]] = {}
    for name, stacks in log.buckets.items():
        for key, count in stacks:
            members.setdefault(key, []).append((name, count))
    for path, size, replicated, keeper, bucket in _kept(state):
        ending = longest_suffix(path, names)
        owner = None if ending is None else names[ending]
        if bucket is not None:
            total = sum(count for _, count in members[bucket])
            for name, count in members[bucket]:
                held[name].add(size * count // total, replicated)
        elif owner is not None:
            held[owner].add(size, replicated)
            held[owner].keepers += [] if keeper in held[owner].keepers else [keeper]
        else:
            shared += size
    return held, shared


def _optimizer(log: DecisionLog, name: str, keepers: list[str]) -> str:
    steps = [*keepers, *(["rule"] if name in log.buckets else [])]
    group = f"{log.groups[name]}: " if name in log.groups else ""
    rate = f", rate x {log.rates[name]}" if name in log.rates else ""
    return group + (", ".join(steps) or "stateless") + rate


def _axes(log: DecisionLog, name: str, rank: int) -> str:
    if name not in log.axes:
        return ""
    axes = log.axes[name]
    sides: list[tuple[str, Sequence[int]]] = []
    sides += zip(("stack", "in", "out"), axes.sides(rank), strict=True)
    if axes.cut_axis is not None:
        sizes = (axes.blocks,) if isinstance(axes.blocks, int) else axes.blocks or ()
        sides.append((f"axis {axes.cut_axis} in blocks of", sizes))
    return ", ".join(f"{side} {' '.join(map(str, axes))}" for side, axes in sides if axes)
