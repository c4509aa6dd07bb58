"""The parameters that a command is about: their shapes, and where on a mesh they lie."""

import math
import re
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from ..layout.paths import arrays
from ..observe.state_shardings import mesh_of_params
from .loading import UsageError, guarded

MOST_DEVICES = 4096  # 1,024 take a minute and 2 GB; 100,000 take all memory there is


def gpt2() -> Any:
    """Return the parameters of GPT-2 small: twelve layers, 124 million."""
    zeros = lambda *shape: jnp.zeros(shape, jnp.float32)
    norm = lambda: {"scale": zeros(768), "bias": zeros(768)}
    layer = lambda: {
        "norm_1": norm(),
        "attention_in": {"kernel": zeros(768, 2304), "bias": zeros(2304)},
        "attention_out": {"kernel": zeros(768, 768), "bias": zeros(768)},
        "norm_2": norm(),
        "mlp_in": {"kernel": zeros(768, 3072), "bias": zeros(3072)},
        "mlp_out": {"kernel": zeros(3072, 768), "bias": zeros(768)},
    }
    layers = {f"layer_{i}": layer() for i in range(12)}
    return {"wte": zeros(50257, 768), "wpe": zeros(1024, 768), **layers, "norm": norm()}


def abstract(found: Any, spec: str) -> Any:
    """Return the shapes of the parameters that the user names, a tree or what makes one.

    What lies on a mesh keeps its `NamedSharding`, which `jax.eval_shape` alone would drop.
    """
    make = found if callable(found) and not jax.tree.leaves(arrays(found)) else lambda: found
    shardings = []

    def made() -> Any:
        tree = arrays(make())
        shardings.extend(_sharding_of(leaf) for leaf in jax.tree.leaves(tree))
        return tree

    try:
        with guarded(memory=False):
            tree = jax.eval_shape(made)
    except Exception as error:
        raise UsageError(f"calling {spec} failed: {type(error).__name__}: {error}") from error
    shapes, structure = jax.tree.flatten(tree)
    if not shapes:
        raise UsageError(f"{spec} has no arrays: name a tree of parameters, or a function of none")
    there = zip(shapes, shardings, strict=True)
    placed = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding) for x, sharding in there]
    return jax.tree.unflatten(structure, placed)


def _sharding_of(leaf: Any) -> NamedSharding | None:
    """Return where an array lies; of one that is traced, what its type says."""
    if not isinstance(leaf, Tracer):
        sharding = getattr(leaf, "sharding", None)
        return sharding if isinstance(sharding, NamedSharding) else None
    sharding = jax.typeof(leaf).sharding
    return sharding if AxisType.Explicit in sharding.mesh.axis_types else None


def axis_sizes(mesh: str) -> dict[str, int]:
    """Return the sizes of the axes that `--mesh` names.

    Raises:
        UsageError: They are not written so, or are more than a matrix has sides or a machine room.
    """
    sizes = {}
    for part in filter(None, mesh.split(",")):
        found = re.fullmatch(r"\s*(\w+)=(\d+)\s*", part)
        if not found or int(found[2]) < 1 or found[1] in sizes:
            raise UsageError(f"--mesh takes axes once each, as fsdp=2,tensor=4; got {mesh!r}")
        sizes[found[1]] = int(found[2])
    if sum(axis != "data" for axis in sizes) > 2:
        raise UsageError(f"--mesh {mesh!r}: a matrix has two sides; besides data, give two axes")
    devices = math.prod(sizes.values())
    if devices > max(MOST_DEVICES, jax.device_count()):
        raise UsageError(
            f"--mesh {mesh!r} has {devices:,} devices; at most {MOST_DEVICES:,} are simulated; "
            "docs/scaling.md shows how to carry the costs on from there"
        )
    return sizes


def spread(params: Any, sizes: dict[str, int], split: str) -> Any:
    """Return the parameters on a mesh of these sizes: the first axis splits what `split` says.

    Raises:
        UsageError: The parameters lie on a mesh of their own, or on several.
    """
    try:
        own = mesh_of_params(params)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not sizes:
        return params
    if own is not None:
        raise UsageError(f"the parameters lie on a mesh already, {dict(own.shape)}: no --mesh then")
    mesh = AbstractMesh(
        tuple(sizes.values()), tuple(sizes), axis_types=(AxisType.Explicit,) * len(sizes)
    )
    sides = (-2, -1) if split == "rows" else (-1, -2)

    def place(leaf: Any) -> jax.ShapeDtypeStruct:
        spec: list[str | None] = [None] * len(leaf.shape)
        for axis, side in zip([axis for axis in sizes if axis != "data"], sides, strict=False):
            if len(spec) > 1 and leaf.shape[side] % sizes[axis] == 0:
                spec[side] = axis
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(place, params)


def on_devices(params: Any, axis_types: tuple[AxisType, ...] | None = None) -> Any:
    """Return the parameters on devices of this machine, split as they are.

    Args:
        params: The parameters, on a mesh that may be abstract, or on none.
        axis_types: Instead of those of the mesh.
    """
    mesh = mesh_of_params(params)
    if mesh is None:
        return params
    here = jax.make_mesh(mesh.axis_sizes, mesh.axis_names, axis_types=axis_types or mesh.axis_types)

    def place(leaf: Any) -> jax.ShapeDtypeStruct:
        spec = PartitionSpec() if leaf.sharding is None else leaf.sharding.spec
        sharding = NamedSharding(here, spec)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(place, params)
