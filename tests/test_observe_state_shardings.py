import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradsmith as gs

SPECS = {"a": P("x", "y"), "b": P("y"), "bias": P()}


def placed(kind=AxisType.Auto):
    mesh = jax.make_mesh((2, 4), ("x", "y"), axis_types=(kind, kind))
    shapes = {"a": (16, 8), "b": (16, 8), "bias": (8,)}
    home = lambda name: NamedSharding(mesh, SPECS[name])
    return mesh, {n: jax.device_put(jnp.ones(s), home(n)) for n, s in shapes.items()}


def whole_chain():
    kept = gs.per_stack(optax.trace(0.9), placement=gs.Owners(param_specs=SPECS))
    return gs.partition_by_role(
        optax.chain(optax.trace(0.9), kept, optax.scale_by_learning_rate(0.1)), gs.scale_by_adam()
    )


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_a_whole_chain_is_initialised_where_it_belongs(kind):
    mesh, params = placed(kind)
    tx = whole_chain()
    shardings = gs.state_shardings(tx, params)
    with jax.set_mesh(mesh):
        state = jax.jit(tx.init, out_shardings=shardings)(params)
        _, after = jax.jit(tx.update)(params, state, params)
    matrices = shardings.inner_states["matrices"].inner_state
    assert matrices[0].trace["a"].spec == P("x", "y")
    assert matrices[0].trace["b"].spec == P("y")
    assert matrices[1].buckets["2x16x8 float32"].trace.spec[0] == ("x", "y")
    assert shardings.inner_states["others"].inner_state.mu["bias"].spec == P()
    for tree in (state, after):
        is_there = lambda array, home: array.sharding.is_equivalent_to(home, array.ndim)
        assert jax.tree.all(jax.tree.map(is_there, tree, shardings))


def test_without_a_mesh_there_is_nothing_to_say():
    with pytest.raises(ValueError, match="no parameter has a NamedSharding"):
        gs.state_shardings(gs.scale_by_adam(), {"a": jnp.ones((2, 2))})
