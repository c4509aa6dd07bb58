"""How every array of a state is split over the mesh."""

import contextlib
import math
from typing import Any

import jax
import optax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from ..layout.decision_log import DecisionLog, record_decisions
from ..layout.paths import longest_suffix


def state_shardings(tx: optax.GradientTransformation, params: Any) -> Any:
    """Return the sharding of every array in the state of an optimizer.

    Momentum and moments lie where their parameters lie. So do arrays that have one number for
    several numbers of a parameter along one axis. What a rule keeps lies with the owners of the
    matrices. Everything else is the same on all devices. Give the shardings to `jax.jit`, which on
    a mesh of Auto axes would otherwise replicate all of it, and to Orbax, to restore onto another
    mesh.

    Nothing is allocated: `tx.init` runs on abstract values.

    Args:
        tx: The whole optimizer.
        params: The parameters, or `jax.ShapeDtypeStruct`s of them, with their `NamedSharding`.

    Raises:
        ValueError: No parameter has a `NamedSharding`, or they lie on different meshes.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jax.sharding import NamedSharding, PartitionSpec as P
        >>> import gradsmith as gs
        >>> mesh = jax.make_mesh((jax.device_count(),), ("fsdp",))
        >>> sharding = NamedSharding(mesh, P("fsdp"))
        >>> params = {"kernel": jax.ShapeDtypeStruct((64, 16), jnp.float32, sharding=sharding)}
        >>> shardings = gs.state_shardings(optax.trace(0.9), params)
        >>> print(shardings.trace["kernel"].spec)
        P('fsdp',)
    """
    if mesh_of_params(params) is None:
        raise ValueError(
            "no parameter has a NamedSharding, so nothing says which mesh the state is for; put "
            "the parameters on one by jax.device_put, or give jax.ShapeDtypeStructs with sharding="
        )
    return jax.tree.map(lambda x: x.sharding, state_shapes(tx, params)[0])


def state_shapes(tx: optax.GradientTransformation, params: Any) -> tuple[Any, DecisionLog]:
    """Return the state of an optimizer as shapes, with what its `init` wrote into the log.

    Where parameters lie on a mesh, every shape has its `NamedSharding`.

    Raises:
        ValueError: The parameters lie on different meshes.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    mesh = mesh_of_params(params)
    spec_of = lambda x: getattr(getattr(x, "sharding", None), "spec", PartitionSpec())
    of_params = {path: (leaf.shape, spec_of(leaf)) for path, leaf in leaves}
    shardings = []

    def init(params):
        state = tx.init(params)
        placed = {id(array): spec for array, spec in log.placed}
        for path, array in jax.tree_util.tree_leaves_with_path(state):
            ending = longest_suffix(path, of_params)
            shape, spec = ((), PartitionSpec()) if ending is None else of_params[ending]
            spec = _fitting(spec, shape, array.shape)
            spec = placed.get(id(array), spec)
            shardings.append(None if mesh is None else NamedSharding(mesh, spec))
        return state

    abstract = mesh.abstract_mesh if isinstance(mesh, Mesh) else mesh
    use_mesh = jax.sharding.use_abstract_mesh
    on_mesh = contextlib.nullcontext() if abstract is None else use_mesh(abstract)
    with record_decisions() as log, on_mesh:
        # A new function each time: eval_shape would answer a known one without running it.
        state = jax.eval_shape(init, params)
    shapes, structure = jax.tree.flatten(state)
    there = zip(shapes, shardings, strict=True)
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding) for x, sharding in there]
    return jax.tree.unflatten(structure, shapes), log


def _fitting(spec: PartitionSpec, shape: tuple, own: tuple) -> PartitionSpec:
    """Return the split of a parameter for what is kept of it, along the axes that are as long."""
    if own == shape:
        return spec
    if len(own) != len(shape):
        return PartitionSpec()
    axes = [*spec, *[None] * (len(shape) - len(spec))]
    return PartitionSpec(*(a if x == y else None for a, x, y in zip(axes, shape, own, strict=True)))


def mesh_of_params(params: Any) -> Mesh | AbstractMesh | None:
    """Return the mesh that all parameters with a `NamedSharding` lie on; None if none has one.

    Raises:
        ValueError: There are several.
    """
    first = None
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        sharding = getattr(leaf, "sharding", None)
        if not isinstance(sharding, NamedSharding):
            continue
        if first is not None and sharding.mesh != first[1]:
            raise ValueError(
                f"parameters lie on different meshes: {jax.tree_util.keystr(first[0])} on "
                f"{first[1]}, {jax.tree_util.keystr(path)} on {sharding.mesh}"
            )
        first = first or (path, sharding.mesh)
    return None if first is None else first[1]


def bytes_on_device(tree: Any) -> int:
    """Return how many bytes of the arrays of a tree each device holds."""

    def of(x: Any) -> int:
        sharding = getattr(x, "sharding", None)
        shape = sharding.shard_shape(x.shape) if isinstance(sharding, NamedSharding) else x.shape
        return math.prod(shape) * x.dtype.itemsize

    return sum(of(x) for x in jax.tree.leaves(tree))
