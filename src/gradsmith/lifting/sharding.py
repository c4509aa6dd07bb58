"""How every array of a state is split over the mesh."""

from typing import Any

import jax
import optax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from .journal import listening


def state_shardings(tx: optax.GradientTransformation, params: Any) -> Any:
    """Return the sharding of every array in the state of an optimizer.

    Momentum and moments lie where their parameters lie; what a rule keeps lies with the owners of
    the matrices; everything else is the same on all devices. Give it to `jax.jit`, which on a mesh
    of Auto axes would otherwise replicate all of it, and to Orbax, to restore onto another mesh.

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
        >>> home = NamedSharding(mesh, P("fsdp"))
        >>> params = {"kernel": jax.ShapeDtypeStruct((64, 16), jnp.float32, sharding=home)}
        >>> shardings = gs.state_shardings(optax.trace(0.9), params)
        >>> print(shardings.trace["kernel"].spec)
        P('fsdp',)
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    mesh = mesh_of_params(params)
    homes = dict(leaves)
    lengths = sorted({len(path) for path, _ in leaves}, reverse=True)
    shardings = []

    def init(params):
        state = tx.init(params)
        placed = {id(array): spec for array, spec in journal.placed}
        for path, array in jax.tree_util.tree_leaves_with_path(state):
            endings = (path[len(path) - length :] for length in lengths if length <= len(path))
            home = next((homes[ending] for ending in endings if ending in homes), None)
            spec = placed.get(id(array), PartitionSpec())
            if id(array) not in placed and home is not None and home.shape == array.shape:
                spec = getattr(home.sharding, "spec", spec)
            shardings.append(NamedSharding(mesh, spec))
        return state

    abstract = mesh.abstract_mesh if isinstance(mesh, Mesh) else mesh
    with listening() as journal, jax.sharding.use_abstract_mesh(abstract):
        state = jax.eval_shape(init, params)
    return jax.tree.unflatten(jax.tree.structure(state), shardings)


def mesh_of_params(params: Any) -> Mesh | AbstractMesh:
    """Return the mesh that all parameters with a `NamedSharding` lie on.

    Raises:
        ValueError: There is none, or there are several.
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
    if first is None:
        raise ValueError(
            "no parameter has a NamedSharding, so nothing says which mesh the state is for; put "
            "the parameters on one by jax.device_put, or give jax.ShapeDtypeStructs with sharding="
        )
    return first[1]
