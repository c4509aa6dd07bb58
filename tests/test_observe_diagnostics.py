"""What a training run logs, against sums in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradsmith as gs


def tree(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = {"a": (16, 8), "b": (16, 8), "c": (16, 8)}
    return {
        n: jax.random.normal(k, s, dtype) for k, (n, s) in zip(keys, shapes.items(), strict=True)
    }


def rms(*arrays):
    flat = np.concatenate([np.asarray(x, np.float64).ravel() for x in arrays])
    return np.sqrt(np.mean(flat**2))


def told(tx, grads, steps=1):
    state = tx.init(grads)
    for _ in range(steps):
        _, state = tx.update(grads, state, grads)
    return state, gs.diagnostics(state)


def test_momentum_has_the_root_mean_square_of_each_leaf():
    grads = tree()
    _, found = told(optax.chain(optax.clip(9.0), optax.trace(0.5)), grads, steps=2)
    expected = {f"trace/{name}": 1.5 * rms(grad) for name, grad in grads.items()}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)


def test_counters_are_told_as_they_are_whatever_wraps_them(standard_promotion):
    inner = gs.partition_by_role(gs.soap(0.1), optax.adam(0.1))
    injected = optax.inject_hyperparams(lambda rate: optax.chain(optax.scale(rate), inner))(0.5)
    tx = optax.MultiSteps(injected, 2).gradient_transformation()
    _, found = told(tx, {"kernel": jnp.ones((8, 4)), "bias": jnp.ones(4)}, steps=4)
    assert found["gradient_step"] == 2
    assert found["hyperparams/rate"] == 0.5
    assert found["matrices/matrices/1x8x4 float32/step"] == 2
    assert found["others/count"] == 2
    assert "others/mu/bias" in found


def test_what_two_parts_would_both_be_called_keeps_its_whole_path():
    _, found = told(optax.chain(optax.trace(0.5), optax.trace(0.9)), {"a": jnp.ones(2)})
    assert list(found) == ["0/trace/a", "1/trace/a"]


def test_lists_and_tuples_of_the_model_stay_in_the_names():
    _, found = told(optax.chain(optax.trace(0.5)), {"layers": ([jnp.ones(2)], jnp.ones(2))})
    assert list(found) == ["trace/layers/0/0", "trace/layers/1"]


def test_the_variables_of_flax_are_called_as_the_model_calls_them():
    params = nnx.state(nnx.Linear(4, 2, rngs=nnx.Rngs(0)), nnx.Param)
    assert list(gs.diagnostics(gs.momentum().init(params))) == [
        "step",
        "momentum/bias",
        "momentum/kernel",
    ]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_squares_neither_vanish_nor_overflow_in_16_bits(dtype):
    grads = {"a": jnp.full((4, 4), 6e4, dtype), "b": jnp.full((4, 4), 1e-6, dtype)}
    found = gs.diagnostics(optax.TraceState(grads))
    for name, grad in grads.items():
        np.testing.assert_allclose(found[f"trace/{name}"], rms(grad), rtol=1e-6)


def test_a_bucket_on_a_mesh_counts_every_matrix_once():
    """Three matrices take eight places, and five of these hold a matrix once more."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Explicit,))
    grads = jax.tree.map(lambda x: jax.device_put(x, NamedSharding(mesh, P("x"))), tree())
    tx = optax.chain(optax.trace(0.0), gs.per_stack(optax.trace(0.0)))
    with jax.set_mesh(mesh):
        _, state = jax.jit(tx.update)(grads, tx.init(grads))
        found = jax.jit(gs.diagnostics)(state)
    assert state[1].buckets["3x16x8 float32"].trace.shape[0] == 8
    np.testing.assert_allclose(found["3x16x8 float32/trace"], rms(*tree().values()), rtol=1e-6)
    np.testing.assert_allclose(found["trace/a"], rms(tree()["a"]), rtol=1e-6)
    assert all(value.shape == () for value in found.values())


def test_keys_and_indices_are_no_numbers_to_log():
    state = {"key": jax.random.key(0), "old": jax.random.PRNGKey(0), "on": jnp.array(True)}
    assert list(gs.diagnostics(state)) == ["on"]
