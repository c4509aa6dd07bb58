"""Show what an optimizer will do with every leaf of a model, before it does it."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import optax

from ..layout.decision_log import DecisionLog
from ..layout.key import BucketKey
from ..layout.paths import arrays, longest_suffix, path_name
from ..lift.engine import StackState
from ..transforms.sides import remark_on_order
from .description import Description, LeafDescription
from .state_shardings import bytes_on_device, mesh_of_params, state_shapes


def describe(tx: optax.GradientTransformation, params: Any) -> Description:
    """Return a table of every leaf: role and why, axes, bucket, who optimizes it, state bytes.

    It works for any chain. It runs `tx.init` on abstract values, so a model of any size costs no
    memory. Roles and buckets are those that `partition_by_role` and `per_stack` really decide. A
    leaf that neither of them sees shows the state that other transformations keep for it. A remark
    names parts of gradsmith on the wrong side of a `gradsmith.scale_by_learning_rate`.

    An optimizer is written as `group: parts`: the groups of `optax.partition`, the parts that keep
    a state for the leaf, and the rules that see its matrices, if it joins a bucket. A rule has the
    name of the function that makes it.

    If parameters lie on a mesh, the table says what each device holds and what all of them hold,
    for a state that `state_shardings` has placed.

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
        dense/kernel | matrix | matrices: momentum, orthogonalized | 65536
    """
    params = arrays(params)
    mesh = mesh_of_params(params)
    state, log = state_shapes(tx, params)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    held, shared = _attribute(state, [path for path, _ in leaves], log)
    return Description(
        tuple(_leaf(path_name(path), leaf, log, held) for path, leaf in leaves),
        shared,
        _remarks(log),
        {} if mesh is None else dict(mesh.shape),
        bytes_on_device(state),
    )


def _leaf(name: str, leaf: Any, log: DecisionLog, held: dict[str, "_Held"]) -> LeafDescription:
    shape = tuple(leaf.shape)
    buckets = tuple(dict.fromkeys(key for key, _ in log.buckets.get(name, ())))
    return LeafDescription(
        path=name,
        shape=shape,
        dtype=leaf.dtype.name,
        role=log.roles[name].name if name in log.roles else "",
        why=log.roles[name].why if name in log.roles else "",
        axes=_axes(log, name, len(shape)),
        buckets=buckets,
        transposed=_transposed(log, name, shape, buckets),
        optimizer=_optimizer(log, name, held[name].keepers),
        state_bytes=held[name].size,
        replicated_bytes=held[name].replicated,
    )


def _remarks(log: DecisionLog) -> tuple[str, ...]:
    """Return what a reader should look at, each with the leaves it holds for."""
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
    """Name who keeps a state and which rules there are, in the order in which they act."""
    plain = lambda words: words.replace("_", "")  # a state is named by its class, without any
    steps = [plain(step) for step, _ in log.steps.get(name, ())]

    def order(part: str) -> int:  # what is not gradsmith's has written nothing, and comes first
        return next((i for i, step in enumerate(steps) if step.endswith(plain(part))), -1)

    parts = sorted([*keepers, *log.rules.get(name, ())], key=order)
    group = f"{log.groups[name]}: " if name in log.groups else ""
    rate = f", rate x {log.rates[name]}" if name in log.rates else ""
    return group + (", ".join(parts) or "stateless") + rate


def _transposed(
    log: DecisionLog, name: str, shape: tuple[int, ...], keys: tuple[str, ...]
) -> tuple[bool, ...]:
    own = {stack[1:] for stack in log.axes[name].stack_shapes(shape)} if keys else set()
    parsed = [BucketKey.parse(key) for key in keys]
    return tuple(key is not None and key.matrix_shape not in own for key in parsed)


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
