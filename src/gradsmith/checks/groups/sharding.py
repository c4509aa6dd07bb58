"""On eight devices: the state lies where its parameters lie, and nothing changes in the numbers."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ..bench import Bench
from ..check import check
from ..compare import at, fail_if_types_differ
from ..mirrors import param_leaves
from ..problem import gradient, sample
from ..steps import fail_if_step_differs
from ..verdicts import CheckFailure

_NEEDS = ("core_runs", "updates_like_params", "state_stable", "tree_map_params")
_AXIS = "devices"
_SPLIT = (
    "m = jax.make_mesh((8,), 'x', (jax.sharding.AxisType.Auto,)); "
    "p = jax.device_put(jnp.ones((16, 8)), jax.NamedSharding(m, jax.P('x')))"
)


def _mesh(kind: AxisType) -> Mesh:
    devices = np.array(jax.devices()[:8])
    return Mesh(devices, (_AXIS,), axis_types=(kind,))


def _params(bench: Bench) -> Any:
    """Parameters whose first axes eight devices can share."""
    bench.require_own_trees()
    return sample({"bias": (8,), "kernel": (16, 8)})


def _shard(tree: Any, mesh: Mesh) -> Any:
    """Split every leaf along its first axis."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(_AXIS)))


def _fail_if_state_strays(bench: Bench, state: Any, params: Any, when: str) -> None:
    """State that belongs to a parameter, and has its shape, has its sharding.

    It belongs when `optax.tree.map_params` visits it and its path ends in the parameter's path.
    Shape alone says nothing: a factored second moment may have the shape of another parameter.
    """
    visited = param_leaves(bench.tx, state)
    owners = {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        for owner, param in owners.items():
            if (
                id(leaf) in visited
                and at(path).endswith(owner)
                and leaf.shape == param.shape
                and not leaf.sharding.is_equivalent_to(param.sharding, leaf.ndim)
            ):
                raise CheckFailure(
                    f"{when} the state at {at(path)} has {leaf.sharding}; its parameter has "
                    f"{param.sharding}"
                )


@check(
    needs=_NEEDS,
    requires=("eight_devices",),
    call=f"{_SPLIT}; print(jax.tree.map(lambda x: x.sharding, tx.init(p)))",
    cause="jnp.zeros(p.shape) lies on one device wherever p lies",
    change="use jnp.zeros_like(p): it takes the sharding along",
)
def check_sharded_init(bench: Bench) -> None:
    """`init` of parameters split over eight devices splits the state that belongs to them."""
    params = _shard(_params(bench), _mesh(AxisType.Auto))
    _fail_if_state_strays(bench, bench.tx.init(params), params, "after `init`")


@check(
    needs=(*_NEEDS, "sharded_init", "no_recompile", "pure"),
    requires=("eight_devices",),
    call=f"{_SPLIT}; u = jax.jit(tx.update)(p, tx.init(p), p); "
    "print(u, jax.tree.map(lambda x: x.sharding, u))",
    cause="a reduction counts local values, or the state is gathered by a sharding constraint",
    change="leave layout to jit: compute on global arrays, constrain nothing",
)
def check_sharded_step(bench: Bench) -> None:
    """Two steps on eight devices equal those on one, and keep the shardings of the state."""
    alone = _params(bench)
    given = (gradient(alone), bench.tx.init(alone), alone)
    two_steps = bench.two_steps()
    params = _shard(alone, _mesh(AxisType.Auto))
    grads, state = _shard(gradient(alone), _mesh(AxisType.Auto)), bench.tx.init(params)
    step = jax.jit(bench.update)
    for number in (1, 2):
        updates, state = step(grads, state, params)
        _fail_if_state_strays(bench, state, params, f"after step {number}")
    fail_if_step_differs(
        "eight devices", (updates, state), two_steps(*given), "one", 1e-3, two_steps, *given
    )


@check(
    needs=("core_runs", "updates_like_params", "state_stable", "no_recompile", "pure"),
    requires=("eight_devices",),
    call="m = jax.make_mesh((8,), 'x'); "
    "print(jax.shard_map(tx.update, mesh=m, in_specs=jax.P(), out_specs=jax.P())(p, s, p)[0])",
    cause="a sum over the axes of the mesh (psum) counts what every device has, or a loop's carry "
    "or a branch of a cond changes how it varies over the mesh",
    change="sum over no axis that was not asked for; make carries from the arrays they will be "
    "combined with (jnp.zeros_like(x))",
)
def check_shard_map(bench: Bench) -> None:
    """Inside `jax.shard_map`, everything replicated, a step equals the plain one."""
    mesh, whole = _mesh(AxisType.Auto), PartitionSpec()
    mapped = jax.jit(
        jax.shard_map(bench.update, mesh=mesh, in_specs=(whole, whole, whole), out_specs=whole)
    )
    args = jax.device_put(
        (bench.grads, bench.state, bench.params), NamedSharding(mesh, PartitionSpec())
    )
    given = (bench.grads, bench.state, bench.params)
    seen, like = mapped(*args), bench.step(*given)
    fail_if_step_differs("shard_map", seen, like, "a plain step", 1e-3, bench.step, *given)


@check(
    phase="abstract",
    tier="advisory",
    needs=_NEEDS,
    requires=("eight_devices",),
    call="jax.set_mesh(jax.make_mesh((8,), 'x', (jax.sharding.AxisType.Explicit,))); "
    "p = jax.device_put(jnp.ones((16, 8)), jax.P('x')); print(tx.update(p, tx.init(p), p))",
    cause="a product or reshape of split arrays is ambiguous: on an Explicit mesh JAX asks which "
    "sharding the result has",
    change="reshard first (jax.sharding.reshard), or pass out_sharding= to the product",
)
def check_explicit_mesh(bench: Bench) -> None:
    """On a mesh of Explicit axes a step traces, and keeps all types, shardings included."""
    mesh = _mesh(AxisType.Explicit)
    with jax.set_mesh(mesh):
        params = _shard(_params(bench), mesh)
        state = bench.tx.init(params)
        updates, after = jax.eval_shape(bench.update, params, state, params)
        fail_if_types_differ("the state after a step", after, state, "at `init` it")
        for (path, u), p in zip(
            jax.tree_util.tree_leaves_with_path(updates), jax.tree.leaves(params), strict=True
        ):
            if u.sharding is not None and u.sharding.spec != jax.typeof(p).sharding.spec:
                raise CheckFailure(
                    f"the update at {at(path)} has {u.sharding.spec}; its parameter has "
                    f"{jax.typeof(p).sharding.spec}"
                )
