"""On the tree of a model, where the author gives one.

It is traced, and nothing of its size is allocated; it is computed with where it is small.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from ..bench import Bench
from ..check import check
from ..compare import at, fail_if_types_differ, short
from ..steps import fail_if_step_differs
from ..verdicts import CheckFailure, NotApplicable

_NEEDS = ("core_runs", "model_init")
_CAUSE = "a leaf of the model has a shape, a dtype or a name that the small tree has not"


def _traced(bench: Bench, params: Any) -> tuple[Any, Any, Any]:
    """Return the types of a state, and of the updates and the state after a step."""
    state = jax.eval_shape(bench.tx.init, params)
    updates, new_state = jax.eval_shape(bench.update, params, state, params)
    return state, updates, new_state


@check(
    phase="abstract",
    requires=("model",),
    call="print(jax.eval_shape(tx.init, p))",
    cause=_CAUSE,
    change="say what the leaf is where the optimizer takes such words, or mask it",
)
def check_model_init(bench: Bench) -> None:
    """`init` can be traced with the parameters of the model."""
    jax.eval_shape(bench.tx.init, bench.subject.model)


@check(
    phase="abstract",
    needs=_NEEDS,
    requires=("model",),
    call="q = jax.eval_shape(tx.init, p); print(jax.eval_shape(tx.update, p, q, p)[0])",
    cause=_CAUSE,
    change="return updates of the shapes and dtypes of the gradients",
)
def check_model_updates(bench: Bench) -> None:
    """The updates of the model have its tree, shapes and dtypes, and `apply_updates` takes them."""
    params = bench.subject.model
    _, updates, _ = _traced(bench, params)
    fail_if_types_differ("the updates", updates, params, "the parameters")
    jax.eval_shape(optax.apply_updates, params, updates)


@check(
    phase="abstract",
    needs=_NEEDS,
    requires=("model",),
    call="q = jax.eval_shape(tx.init, p); print(q, jax.eval_shape(tx.update, p, q, p)[1])",
    cause=_CAUSE,
    change="cast what is kept to the dtype it had in `init`",
)
def check_model_state(bench: Bench) -> None:
    """The state of the model keeps its tree, shapes and dtypes, so that a loop can carry it."""
    state, _, new_state = _traced(bench, bench.subject.model)
    fail_if_types_differ("the state after `update`", new_state, state, "after `init` it")


@check(
    phase="abstract",
    needs=_NEEDS,
    requires=("model",),
    call="p = {'w': jnp.ones((4, 3)), 'b': None}; print(tx.update(p, tx.init(p), p))",
    cause="`update` looks at a leaf that is None",
    change="map over the tree with jax.tree.map, which passes over None",
)
def check_model_frozen(bench: Bench) -> None:
    """Every other leaf of the model may be None, as in a model that is frozen in part."""
    leaves, structure = jax.tree.flatten(bench.subject.model)
    thinned = structure.unflatten([None if i % 2 else leaf for i, leaf in enumerate(leaves)])
    state, updates, new_state = _traced(bench, thinned)
    fail_if_types_differ("the updates", updates, thinned, "the parameters")
    fail_if_types_differ("the state after `update`", new_state, state, "after `init` it")


@check(
    tier="advisory",
    phase="abstract",
    needs=_NEEDS,
    requires=("model",),
    call="print(jax.eval_shape(tx.init, p))",
    cause="averages are kept in the dtype of the parameters: in bfloat16 what is less than a 256th "
    "of an average is lost",
    change="keep averages in float32: jnp.zeros_like(p, dtype=jnp.float32)",
)
def check_model_precision(bench: Bench) -> None:
    """What is kept for a parameter in half precision is kept in float32."""
    halves = (jnp.bfloat16, jnp.float16)
    if not any(leaf.dtype in halves for leaf in jax.tree.leaves(bench.subject.model)):
        return
    state = jax.eval_shape(bench.tx.init, bench.subject.model)
    narrow = [
        (path, leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if leaf.dtype in halves and leaf.ndim
    ]
    if narrow:
        path, leaf = narrow[0]
        raise CheckFailure(f"the state at {at(path)} is {short(leaf)}; {len(narrow)} such leaves")


@check(
    phase="abstract",
    needs=(*_NEEDS, "model_updates"),
    requires=("model", "mesh"),
    call="m = jax.make_mesh((8,), 'x', (jax.sharding.AxisType.Explicit,)); jax.set_mesh(m); "
    "p = jax.device_put(jnp.ones((16, 8)), jax.P('x')); "
    "print(tx.update(p, tx.init(p), p)[0].sharding)",
    cause="a formula reshapes or multiplies axes that are split among devices, or gathers them",
    change="compute whole matrices on one device each, as gradsmith.per_stack does, or say how "
    "results are split (out_sharding=)",
)
def check_model_mesh(bench: Bench) -> None:
    """On the mesh, the updates of the model are split as its parameters are.

    The mesh has Explicit axes, where JAX knows of every array how it is split. Every axis of the
    mesh splits the first axis of a leaf that it divides and that no other splits.
    """
    mesh = AbstractMesh(
        tuple(bench.subject.mesh.values()),
        tuple(bench.subject.mesh),
        axis_types=(AxisType.Explicit,) * len(bench.subject.mesh),
    )
    params = jax.tree.map(lambda leaf: _split(leaf, mesh), bench.subject.model)
    with jax.sharding.use_abstract_mesh(mesh):
        _, updates, _ = _traced(bench, params)
    pairs = zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(updates), strict=True)
    for (path, param), update in pairs:
        if update.sharding.spec != param.sharding.spec:
            raise CheckFailure(
                f"the update at {at(path)} is split as {update.sharding.spec}; its parameter is "
                f"split as {param.sharding.spec}"
            )


@check(
    needs=(*_NEEDS, "model_mesh", "no_recompile", "pure"),
    requires=("small_model", "mesh", "eight_devices"),
    call="m = jax.make_mesh((8,), 'fsdp', (jax.sharding.AxisType.Auto,)); "
    "p = jax.device_put(jnp.ones((16, 8)), jax.NamedSharding(m, jax.P('fsdp'))); "
    "print(jax.jit(tx.update)(p, tx.init(p), p)[0])",
    cause="a reduction counts the values of one device or of one shard, or the size of the mesh "
    "enters",
    change="leave layout to jit: compute on global arrays, constrain nothing",
)
def check_model_sharded(bench: Bench) -> None:
    """On the mesh, of devices that are here, two steps on the model equal those on one device.

    The mesh has Auto axes, and splits the leaves as in `model_mesh`.
    """
    sizes = bench.subject.mesh
    if math.prod(sizes.values()) > len(jax.devices()):
        raise NotApplicable(f"the mesh has more than {len(jax.devices())} devices")
    devices = np.array(jax.devices()[: math.prod(sizes.values())]).reshape(*sizes.values())
    mesh = Mesh(devices, tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))

    def split(leaf: Any) -> Any:
        return jax.device_put(leaf, NamedSharding(mesh, _spec(leaf, sizes)))

    alone = (bench.grads, bench.state, bench.params)
    grads, params = jax.tree.map(split, (bench.grads, bench.params))
    two_steps = bench.two_steps()
    seen, like = two_steps(grads, bench.tx.init(params), params), two_steps(*alone)
    fail_if_step_differs("the mesh", seen, like, "one device", 1e-3, two_steps, *alone)


def _split(leaf: Any, mesh: AbstractMesh) -> jax.ShapeDtypeStruct:
    sharding = NamedSharding(mesh, _spec(leaf, mesh.shape))
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _spec(leaf: Any, sizes: Mapping[str, int]) -> PartitionSpec:
    """Every axis of the mesh splits the first axis that it divides and that no other splits."""
    spec: list[str | None] = [None] * leaf.ndim
    for name, size in sizes.items():
        for axis, length in enumerate(leaf.shape):
            if spec[axis] is None and length % size == 0:
                spec[axis] = name
                break
    return PartitionSpec(*spec)
