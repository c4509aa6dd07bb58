"""States through Orbax: from mesh to mesh to the bit, and into a chain that has changed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
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
    fit = gs.fit_state(tx, params, before, allow_incomplete=True)
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
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    fit = gs.fit_state(tx, wide, state, allow_incomplete=True)
    assert fit.converted == ("buckets/1x4x2 float32/trace",)
    np.testing.assert_array_equal(fit.state.buckets["1x4x2 float32"].trace[0], jnp.ones((4, 2)))


def test_what_does_not_fit_is_an_error_that_names_it_and_the_argument():
    params = {"kernel": jnp.ones((4, 2))}
    stored = optax.trace(0.9).init(params)
    tx = optax.chain(optax.trace(0.9), optax.scale_by_schedule(lambda step: 0.1))
    with pytest.raises(ValueError) as error:
        gs.fit_state(tx, params, stored)
    for said in ("0/trace/kernel, 1/count", "stored, but no longer", "allow_incomplete=True"):
        assert said in str(error.value)


def test_a_long_list_is_cut_in_the_sentence_and_whole_in_the_data():
    params = {f"layer_{i:02}": jnp.ones((2, 2)) for i in range(20)}
    fit = gs.fit_state(optax.trace(0.9), params, {}, allow_incomplete=True)
    assert str(fit).endswith("layer_06, trace/layer_07 and 12 more")
    assert len(fit.new) == 20


class Model(nnx.Module):
    """One of its layers has the name of the entry that Orbax adds."""

    def __init__(self, rngs):
        self.up = nnx.Linear(16, 32, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(32, 32, rngs=rngs) for _ in range(2)])
        self.value = nnx.Param(jnp.ones((32, 8)))


@pytest.mark.parametrize("recipe", [gs.muon, gs.soap, optax.adam], ids=lambda f: f.__name__)
@pytest.mark.parametrize("by", ["a chain", "nnx.Optimizer"])
def test_the_state_of_an_nnx_model_is_found_when_restored_without_a_target(
    tmp_path, recipe, by, standard_promotion
):
    """An `nnx.Optimizer` makes a variable of everything, a chain of what mirrors parameters."""
    tx, model = recipe(0.1), Model(nnx.Rngs(0))
    params = nnx.state(model, nnx.Param)
    with jax.numpy_rank_promotion("allow"):
        _, state = tx.update(params, tx.init(params), params)
        if by == "nnx.Optimizer":
            optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
            optimizer.update(model, params)
            stored = nnx.state(optimizer)["opt_state"]
        else:
            stored = state
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", stored)
    with ocp.StandardCheckpointer() as checkpointer:
        back = checkpointer.restore(tmp_path / "state")
    fit = gs.fit_state(tx, params, back)
    assert fit.complete
    assert jax.tree.structure(fit.state) == jax.tree.structure(state)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # jitted or not
    same = close if by == "nnx.Optimizer" else np.testing.assert_array_equal
    jax.tree.map(same, jax.device_get(fit.state), jax.device_get(state))


def test_the_docs_go_on_where_there_are_only_four_devices(tmp_path):
    """A process that lacks the devices of the checkpoint; in this one, they would be found."""
    page = Path(__file__).parents[1] / "docs" / "scaling.md"
    start, rest = page.read_text().split("## Checkpoints")
    blocks = lambda text: re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    imports, (model, save, *load) = blocks(start)[0].partition("\nmesh =")[0], blocks(rest)
    assert "jax.devices())" in save
    run(tmp_path, 8, [imports, model, save])
    run(tmp_path, 4, [imports, model, *load])


def run(folder, devices, blocks):
    """Run a program in a process that sees so many devices."""
    flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
    environment = {**os.environ, "XLA_FLAGS": flags}
    ended = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
