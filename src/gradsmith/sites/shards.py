"""Where leaves lie: the mesh, and which of its axes split which axis of a leaf."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.core
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from ..layout.declare import MatrixLeaf
from ..layout.paths import longest_prefix, path_name
from .exchange import MeshAxes

Split = tuple[MeshAxes, ...]
"""The mesh axes that split each axis of an array."""


def mesh_of(leaves: Sequence[MatrixLeaf], param_specs: Any = None) -> Mesh | AbstractMesh | None:
    """Return the mesh to compute on: the ambient one, else that of the specs or of Explicit leaves.

    None where there is no mesh of several devices, and inside `jax.shard_map`, where arrays are
    the shards of one device. Warns where there is a mesh, or specs for one, that nobody has set:
    then every device computes all matrices that it has.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        given = jax.tree.leaves(param_specs, is_leaf=_is_spec)
        named = [spec.mesh for spec in given if isinstance(spec, NamedSharding)]
        typed = [
            sharding.mesh for leaf in leaves if (sharding := _explicit(leaf.array)) is not None
        ]
        mesh = next(iter(named + typed), mesh)
    if mesh.empty:
        _warn_of_unset_mesh(leaves, param_specs)
    if mesh.size == 1 or mesh.empty or AxisType.Manual in mesh.axis_types:
        return None
    return mesh


def _warn_of_unset_mesh(leaves: Sequence[MatrixLeaf], param_specs: Any) -> None:
    on_mesh = [leaf for leaf in leaves if _mesh_type(leaf.array).size > 1]
    if on_mesh:
        path, mesh = on_mesh[0].path, _mesh_type(on_mesh[0].array)
        why = f"leaf {path!r} lies on a mesh of Auto axes, {_show(mesh)}, and no mesh is set"
    elif param_specs is not None:
        why = "Owners(param_specs=...) says how parameters are split, and no mesh is set"
    else:
        return
    warnings.warn(
        f"{why}, so every device computes all matrices that it has. Set it around init and update, "
        f"with jax.set_mesh(mesh): ..., and say placement=gradsmith.Owners(param_specs=...). If it "
        f"is meant, say placement='replicated'",
        stacklevel=2,
    )


def sizes_of(mesh: Mesh | AbstractMesh) -> dict[str, int]:
    """Return the size of every axis of the mesh that splits anything."""
    return {axis: size for axis, size in mesh.shape.items() if size > 1}


def splits_of(
    leaves: Sequence[MatrixLeaf], mesh: Mesh | AbstractMesh, param_specs: Any
) -> list[Split | None]:
    """Return how each leaf is split; None where neither its type nor `param_specs` tells.

    Raises:
        ValueError: A spec names an axis that the mesh lacks, or splits an axis unevenly; or a leaf
            lies on another mesh.
    """
    find = _lookup(param_specs)
    return [_split_of(leaf, mesh, find(leaf.path, leaf.array)) for leaf in leaves]


def spec_of(split: Split) -> PartitionSpec:
    """Return the split as a `PartitionSpec`."""
    return PartitionSpec(*(axes or None for axes in split))


def move(x: Array, spec: PartitionSpec, mesh: Mesh | AbstractMesh) -> Array:
    """Return `x` split like that: on Explicit axes by its type, on Auto axes by a constraint."""
    if AxisType.Explicit in mesh.axis_types:
        explicit = _part(spec, x.ndim, mesh, AxisType.Explicit)
        x = jax.sharding.reshard(x, NamedSharding(mesh, explicit))
    if AxisType.Auto in mesh.axis_types and isinstance(x, jax.core.Tracer):
        auto = _part(spec, x.ndim, mesh, AxisType.Auto)
        x = jax.lax.with_sharding_constraint(x, NamedSharding(mesh, auto))
    return x


def in_auto_axes(
    f: Callable[..., list[Array]], specs: Sequence[PartitionSpec], mesh: Mesh | AbstractMesh
) -> Callable[..., list[Array]]:
    """Return `f`, whose results are split by `specs`, so that XLA splits what is in between."""
    if AxisType.Explicit not in mesh.axis_types:
        return f
    explicit = lambda spec: _part(spec, len(spec), mesh, AxisType.Explicit)
    shardings = [NamedSharding(mesh, explicit(spec)) for spec in specs]
    return jax.sharding.auto_axes(f, out_sharding=shardings)  # pyright: ignore[reportReturnType]


def explicit_spec(x: Any) -> PartitionSpec | None:
    """Return how `x` is split on the Explicit mesh it lives on; None if it lives on none."""
    sharding = _explicit(x)
    return None if sharding is None else sharding.spec


def explicit_mesh(tree: Any) -> Mesh | AbstractMesh | None:
    """Return the Explicit mesh that arrays of the tree live on; None if none lives on one."""
    found = (_explicit(x) for x in jax.tree.leaves(tree))
    return next((sharding.mesh for sharding in found if sharding is not None), None)


def check_mesh(x: Any, mesh: Mesh | AbstractMesh, what: str) -> None:
    """Refuse an array whose type says that it lies on another mesh.

    Raises:
        ValueError: It does. The message calls the array `what`.
    """
    sharding = _explicit(x)
    if sharding is not None and not _same(sharding.mesh, mesh):
        raise ValueError(
            f"{what} lies on the mesh {_show(sharding.mesh)}, and the update is computed on "
            f"{_show(mesh)}; put parameters, state and updates on one mesh with jax.device_put"
        )


def _split_of(leaf: MatrixLeaf, mesh: Mesh | AbstractMesh, told: Any) -> Split | None:
    path, array, _ = leaf
    check_mesh(array, mesh, f"leaf {path!r}")
    spec = told.spec if isinstance(told, NamedSharding) else told
    if spec is None:
        spec = _known(array, mesh)
    if spec is None:
        return None
    split = _axes_of(spec, array.ndim, path)
    used = [axis for axes in split for axis in axes]
    for axis in used:
        if axis not in mesh.shape:
            raise ValueError(
                f"leaf {path!r} has the spec {spec}, and the mesh has no axis {axis!r}, only "
                f"{_show(mesh)}"
            )
        if used.count(axis) > 1:
            raise ValueError(f"leaf {path!r} has the spec {spec}, which names {axis!r} twice")
    for size, axes in zip(array.shape, split, strict=True):
        shares = math.prod(mesh.shape[axis] for axis in axes)
        if size % shares:
            raise ValueError(
                f"leaf {path!r} of shape {array.shape} has the spec {spec}, and {size} is not "
                f"divisible among the {shares} devices of {', '.join(axes)}"
            )
    return tuple(tuple(axis for axis in axes if mesh.shape[axis] > 1) for axes in split)


def _known(leaf: Any, mesh: Mesh | AbstractMesh) -> PartitionSpec | None:
    """Return the spec that the type of the leaf tells, or, outside `jit`, the leaf itself."""
    if AxisType.Explicit in mesh.axis_types:
        sharding = _explicit(leaf)
        return PartitionSpec() if sharding is None else sharding.spec
    if isinstance(leaf, jax.core.Tracer):
        return None
    sharding = getattr(leaf, "sharding", None)
    if isinstance(sharding, NamedSharding) and _same(sharding.mesh, mesh):
        return sharding.spec
    return PartitionSpec()


def _axes_of(spec: PartitionSpec, rank: int, path: str = "") -> Split:
    entries = tuple(spec)
    if len(entries) > rank:
        raise ValueError(f"leaf {path!r} has rank {rank} and the spec {spec} of {len(entries)}")
    as_axes = lambda entry: () if entry is None else (entry,) if isinstance(entry, str) else entry
    return (*(tuple(as_axes(entry)) for entry in entries), *((),) * (rank - len(entries)))


def _part(
    spec: PartitionSpec, rank: int, mesh: Mesh | AbstractMesh, kind: AxisType
) -> PartitionSpec:
    """Return what a spec says of the mesh axes of one kind."""
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    of_kind = lambda axes: tuple(axis for axis in axes if kinds[axis] == kind)
    return spec_of(tuple(of_kind(axes) for axes in _axes_of(spec, rank)))


def spec_paths(param_specs: Any) -> dict[str, Any]:
    """Return the specs of a tree of them, by path."""
    leaves = jax.tree_util.tree_leaves_with_path(param_specs, is_leaf=_is_spec)
    return {path_name(path): spec for path, spec in leaves}


def _lookup(param_specs: Any):
    """Return a function of path and leaf that finds the spec of a leaf, or of a node above it."""
    if callable(param_specs):
        return param_specs
    specs = spec_paths(param_specs)

    def find(path: str, leaf: Any) -> Any:
        del leaf
        key = longest_prefix(path, specs)
        return None if key is None else specs[key]

    return find


def _is_spec(node: Any) -> bool:
    return isinstance(node, PartitionSpec | NamedSharding)


def _mesh_type(leaf: Any) -> AbstractMesh:
    """Return the mesh that the type of a leaf tells, inside `jit` as well; it may be empty."""
    sharding = getattr(jax.typeof(leaf), "sharding", None) if hasattr(leaf, "dtype") else None
    return AbstractMesh((), ()) if sharding is None else sharding.mesh


def _explicit(leaf: Any) -> NamedSharding | None:
    if AxisType.Explicit not in _mesh_type(leaf).axis_types:
        return None
    return jax.typeof(leaf).sharding


def _same(one: Mesh | AbstractMesh, other: Mesh | AbstractMesh) -> bool:
    return dict(one.shape) == dict(other.shape)


def _show(mesh: Mesh | AbstractMesh) -> str:
    return mesh_in_words(mesh.shape)


def mesh_in_words(sizes: Mapping[str, int]) -> str:
    """Return the axes of a mesh with their sizes: 'data=2, fsdp=4'."""
    return ", ".join(f"{axis}={size}" for axis, size in sizes.items())
