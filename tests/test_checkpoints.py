"""States through Orbax: from mesh to mesh to the bit, and into a chain that has changed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradsmith as gs

SHAPES = {"a": (16, 8), "b": (16, 8), "c": (16, 8), "bias": (8,)}


def tree(seed):
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    return {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, SHAPES.items(), strict=True)}


def mesh_of(devices):
    axis = (AxisType.Explicit,)
    return jax.make_mesh((devices,), ("x",), axis_types=axis, devices=jax.devices()[:devices])


def put(leaves, mesh):
    home = lambda x: NamedSharding(mesh, P("x") if x.ndim > 1 else P())
    return jax.tree.map(lambda x: jax.device_put(x, home(x)), leaves)


def optimizer():
    """Element by element, so that the number of devices cannot change a bit."""
    return gs.partition_by_role(
        optax.chain(optax.trace(0.9), gs.per_stack(optax.trace(0.5)), optax.scale(-0.1)),
        gs.scale_by_adam(),
    )


def trained(tx, mesh, state, steps):
    with jax.set_mesh(mesh):
        update = jax.jit(tx.update)
        for step in steps:
            updates, state = update(put(tree(step), mesh), state)
    return updates, state


def restored(path):
    """Return a stored tree as NumPy arrays, whatever devices it was stored from."""
    checkpointer = ocp.PyTreeCheckpointer()
    item = checkpointer.metadata(path).item_metadata.tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
    return checkpointer.restore(path, restore_args=as_numpy)


@pytest.mark.parametrize("fewer", [4, 1])
def test_from_eight_devices_to_fewer_and_on_to_the_bit(tmp_path, fewer):
    """The bucket has three matrices: eight places on eight devices, four on four, three on one."""
    tx, eight, few = optimizer(), mesh_of(8), mesh_of(fewer)
    with jax.set_mesh(eight):
        params = put(tree(0), eight)
        start = jax.jit(tx.init, out_shardings=gs.state_shardings(tx, params))(params)
    _, state = trained(tx, eight, start, [1, 2])
    ocp.PyTreeCheckpointer().save(tmp_path / "state", state)
    expected, _ = trained(tx, eight, state, [3, 4])

    fit = gs.fit_state(tx, put(tree(0), few), restored(tmp_path / "state"))
    assert fit.complete, fit
    places = fit.state.inner_states["matrices"].inner_state[1].buckets["3x16x8 float32"].trace
    assert places.shape[0] == {4: 4, 1: 3}[fewer]
    assert len(places.sharding.device_set) == fewer
    updates, _ = trained(tx, few, fit.state, [3, 4])
    for name, update in expected.items():
        np.testing.assert_array_equal(np.asarray(updates[name]), np.asarray(update), err_msg=name)


def test_orbax_restores_onto_another_mesh_by_state_shardings(tmp_path):
    """Where matrices divide evenly on both, the shapes are equal and a target is enough."""
    tx = gs.per_stack(optax.trace(0.5))
    only = lambda leaves: {f"{n}{i}": leaves[n] for n in "abc" for i in range(8)}
    eight, four = mesh_of(8), mesh_of(4)
    with jax.set_mesh(eight):
        params = put(only(tree(0)), eight)
        _, state = tx.update(params, tx.init(params))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
    params = put(only(tree(0)), four)
    shardings = gs.state_shardings(tx, params)
    like = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)
    target = jax.tree.map(like, state, shardings)
    with ocp.StandardCheckpointer() as checkpointer:
        back = checkpointer.restore(tmp_path / "state", target)
    (bucket,) = back.buckets.values()
    assert len(bucket.trace.sharding.device_set) == 4
    assert {shard.data.shape[0] for shard in bucket.trace.addressable_shards} == {6}
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(back), jax.device_get(state))


def test_one_device_to_eight_fills_the_places_again():
    tx = gs.per_stack(optax.trace(0.5))
    matrices = {n: x for n, x in tree(1).items() if x.ndim > 1}
    _, state = tx.update(matrices, tx.init(matrices))
    fit = gs.fit_state(tx, put(matrices, mesh_of(8)), state)
    assert fit.complete
    trace = np.asarray(fit.state.buckets["3x16x8 float32"].trace)
    expected = [matrices[name] for name in "abcabcab"]
    np.testing.assert_array_equal(trace, np.stack(expected))


def test_a_chain_that_has_changed_says_what_is_new_missing_and_converted():
    params = {"kernel": jnp.ones((4, 2)), "other": jnp.ones((4, 2))}
    before = {
        "rule": gs.per_stack(optax.trace(0.5)).init(params),
        "moment": optax.trace(0.9).init(jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)),
        "gone": jnp.ones(3),
        "wide": jnp.ones(3),
    }
    tx = optax.GradientTransformation(
        lambda params: {
            "rule": gs.per_stack(optax.trace(0.5)).init(params),
            "moment": optax.trace(0.9).init(params),
            "fresh": jnp.zeros(2),
            "wide": jnp.zeros(5),
        },
        lambda updates, state, params=None: (updates, state),
    )
    fit = gs.fit_state(tx, params, before)
    assert fit.new == ("fresh",)
    assert fit.missing == ("gone",)
    assert fit.reshaped == ("wide",)
    assert fit.converted == ("moment/trace/kernel", "moment/trace/other")
    assert not fit.complete
    assert str(fit).splitlines()[1] == "stored, but no longer part of the state: gone"
    np.testing.assert_array_equal(fit.state["wide"], jnp.zeros(5))


def test_a_bucket_in_another_dtype_is_found_and_converted():
    params = {"kernel": jnp.ones((4, 2), jnp.bfloat16)}
    tx = gs.per_stack(optax.trace(0.5))
    _, state = tx.update(params, tx.init(params))
    fit = gs.fit_state(tx, jax.tree.map(lambda x: x.astype(jnp.float32), params), state)
    assert fit.converted == ("buckets/1x4x2 float32/trace",)
    np.testing.assert_array_equal(fit.state.buckets["1x4x2 float32"].trace[0], jnp.ones((4, 2)))
