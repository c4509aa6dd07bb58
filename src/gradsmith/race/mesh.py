"""One run on many devices: which part of it lies where.

The devices of a run are a mesh of at most two axes. `fsdp` splits parameters and what the optimizer
keeps; along `data` these are the same. The batch of a step is split over all devices. The axes are
Auto: a model and an optimizer are traced as for one device, and XLA moves what has to be moved.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from .errors import RaceError
from .feeding import example
from .processes import joined
from .tasks import Task

AXES = ("data", "fsdp")
WHOLE = PartitionSpec()

Sizes = Mapping[str, int]
"""How many devices each axis has; empty for one device alone."""


def in_words(sizes: Sizes) -> str:
    """The axes as `--mesh` takes them.

    Examples:
        >>> in_words({"fsdp": 4, "data": 2})
        'data=2,fsdp=4'
    """
    return ",".join(f"{axis}={sizes[axis]}" for axis in AXES if axis in sizes)


def refuse_sizes(sizes: Sizes) -> None:
    """Refuse axes that a race does not have.

    Raises:
        RaceError: There are some, or a size is below 1.
    """
    for axis, size in sizes.items():
        if axis not in AXES or size < 1:
            raise RaceError(
                f"the mesh of a race has the axes data and fsdp, of at least one device each, such "
                f"as data=2,fsdp=4; got {axis}={size}"
            )


def mesh_of(sizes: Sizes) -> Mesh | None:
    """The devices as a mesh, those of all processes together; None if no mesh is asked for.

    Raises:
        RaceError: An axis that a race does not have, too few devices, or devices that are left over
            where there are several processes (`jax.distributed`).
    """
    refuse_sizes(sizes)
    wanted, there = math.prod(sizes.values()), jax.device_count()
    if joined() and wanted < there:
        raise RaceError(
            f"{jax.process_count()} processes are joined by jax.distributed and compute each run "
            f"together: give a mesh of all their {there} devices, such as --mesh fsdp={there}; or "
            "start each by itself, and let them share the runs by --worker or --ray"
        )
    if not sizes:
        return None
    axes = tuple(axis for axis in AXES if axis in sizes)
    if wanted > there:
        raise RaceError(
            f"the mesh {in_words(sizes)} needs {wanted} devices, and JAX sees {there}: "
            "ask for fewer. To simulate devices on the processor, set XLA_FLAGS="
            f"--xla_force_host_platform_device_count={wanted} before the command"
        )
    kinds = (AxisType.Auto,) * len(axes)
    return jax.make_mesh(tuple(sizes[axis] for axis in axes), axes, axis_types=kinds)


def on(mesh: Mesh | None) -> contextlib.AbstractContextManager:
    """Where everything is traced: optimizers that ask for the mesh see it."""
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def split(shape: Sequence[int], sizes: Sizes) -> PartitionSpec:
    """How a parameter of this shape lies: its longest axis that `fsdp` divides is split.

    Examples:
        >>> tuple(split((64, 256), {"data": 2, "fsdp": 4}))
        (None, 'fsdp')
        >>> tuple(split((3,), {"fsdp": 4}))
        ()
    """
    pieces = sizes.get("fsdp", 1)
    even = [n for n, size in enumerate(shape) if size and size % pieces == 0]
    if pieces == 1 or not even:
        return WHOLE
    longest = max(even, key=lambda n: shape[n])
    return PartitionSpec(*[None] * longest, "fsdp")


def param_specs(sizes: Sizes) -> Callable[[Any, Any], PartitionSpec]:
    """How the parameters of a race lie, as a function of path and leaf.

    An optimizer that wants to be told takes it, such as
    `gs.muon(rate, placement=gs.Owners(param_specs=param_specs(mesh)))`. The command line does so.

    Args:
        sizes: The mesh of the race.

    Examples:
        >>> leaf = jax.ShapeDtypeStruct((64, 256), jnp.float32)
        >>> tuple(param_specs({"data": 2, "fsdp": 4})("kernel", leaf))
        (None, 'fsdp')
    """
    return lambda path, leaf: split(leaf.shape, sizes)


def placed(run: Any, mesh: Mesh | None) -> Any:
    """The same run with the place of every array; as it is, if there is no mesh.

    What has the shape of a parameter lies as it does. Anything else, such as what an optimizer
    keeps of many matrices, is split over all devices along its first axis where that is even, and
    else whole on each.

    Args:
        run: Shapes and dtypes of a `RunState`.
        mesh: Its devices.
    """
    if mesh is None:
        return run
    of_params = {leaf.shape for leaf in jax.tree.leaves(run.params)}

    def place(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        mirrors = leaf.shape in of_params
        spec = split(leaf.shape, mesh.shape) if mirrors else _over_all(leaf.shape, mesh)
        sharding = NamedSharding(mesh, spec)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(place, run)


def places(tree: PyTree) -> PyTree:
    """The place of every array; None for those that have none."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


def sharing(task: Task, mesh: Mesh | None) -> Task:
    """The task with a loss that is computed by all devices, each with its part of the batch.

    What cannot be split evenly along its first axis stays whole.
    """
    if mesh is None:
        return task

    def share(leaf: Any) -> Any:
        spec = _over_all(jnp.shape(leaf), mesh)
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, spec))

    def loss(params: PyTree, batch: PyTree) -> jax.Array:
        return task.loss(params, jax.tree.map(share, batch))

    return dataclasses.replace(task, loss=loss)


def refuse_whole(task: Task, mesh: Mesh | None) -> None:
    """Refuse a mesh on which every device would do the same.

    Raises:
        RaceError: No array of a batch can be split, or no parameter.
    """
    if mesh is None:
        return
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(example(task))]
    if mesh.size > 1 and all(_over_all(shape, mesh) == WHOLE for shape in shapes):
        raise RaceError(
            f"a batch of task {task.name} has the shapes {', '.join(map(_shape, shapes))}, and "
            f"{mesh.size} devices can split no first axis evenly: give it a batch that is a "
            f"multiple of {mesh.size} (often --task-arg batch=N), or ask for fewer devices"
        )
    pieces = mesh.shape.get("fsdp", 1)
    params = jax.eval_shape(task.init, jax.random.key(0))
    shapes = [leaf.shape for leaf in jax.tree.leaves(params)]
    if pieces > 1 and all(split(shape, mesh.shape) == WHOLE for shape in shapes):
        raise RaceError(
            f"no parameter of task {task.name} has an axis that fsdp={pieces} splits evenly: take "
            "a number that divides one, or data alone"
        )


def _over_all(shape: Sequence[int], mesh: Mesh) -> PartitionSpec:
    even = bool(shape) and shape[0] > 0 and shape[0] % mesh.size == 0
    return PartitionSpec(mesh.axis_names) if even else WHOLE


def _shape(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"
