"""Mixed precision as people train: narrow parameters, other gradients, wide memory, masters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs

AXES = {"layers": gs.MatrixAxes(batch_axis=0)}
WIDE, NARROW, HALF = jnp.float32, jnp.bfloat16, jnp.float16


def tree(seed, dtype=WIDE):
    keys = jax.random.split(jax.random.key(seed), 3)
    shapes = {"kernel": (6, 4), "layers": (2, 4, 6), "bias": (6,)}.items()
    pairs = zip(keys, shapes, strict=True)
    return {name: jax.random.normal(key, shape, dtype) for key, (name, shape) in pairs}


def dtypes(tree):
    return jax.tree.map(lambda leaf: leaf.dtype, tree)


@pytest.mark.parametrize("params", [WIDE, NARROW])
@pytest.mark.parametrize("grads", [WIDE, NARROW, HALF])
def test_state_dtypes_are_fixed_at_init_whatever_the_gradients_are(params, grads):
    """One compilation for all steps, also where gradients are of another dtype than parameters."""
    tx = gs.muon(0.1, axes=AXES, weight_decay=0.01)
    weights = tree(0, params)
    state = tx.init(weights)
    before = dtypes(state)

    @jax.jit
    def step(weights, state, g):
        updates, state = tx.update(g, state, weights)
        with jax.numpy_dtype_promotion("standard"):  # Optax adds before it converts
            return optax.apply_updates(weights, updates), state

    for seed in range(2):
        weights, state = step(weights, state, tree(seed, grads))
        assert dtypes(state) == before
        assert dtypes(weights) == dtypes(tree(0, params))
    assert step._cache_size() == 1
    assert all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in weights.values())


@pytest.mark.parametrize("dtype", [NARROW, HALF])
def test_momentum_and_moments_of_narrow_parameters_are_float32(dtype):
    state = gs.muon(0.1, axes=AXES).init(tree(0, dtype))
    kept = [leaf.dtype for leaf in jax.tree.leaves(state) if leaf.ndim]
    assert kept == [WIDE] * 4  # a momentum for each matrix, two moments for the bias


def test_momentum_of_narrow_gradients_gathers_what_a_narrow_one_loses():
    """Sums 1 and 400 times 2^-9: bfloat16 has 8 bits, so a sum in it would stay at 1."""
    tx = gs.momentum(1 - 1e-7, "heavy_ball")
    params = {"kernel": jnp.zeros((1, 1), NARROW)}
    grads = [1.0] + [2.0**-9] * 400
    state = tx.init(params)
    for grad in grads:
        _, state = tx.update({"kernel": jnp.full((1, 1), grad, NARROW)}, state)
    np.testing.assert_allclose(state.momentum["kernel"], sum(grads), rtol=1e-3)


def test_master_weights_follow_the_float32_run():
    """Masters are the parameters of the optimizer; the model sees their bfloat16 copy."""

    def loss(params, seed):
        x = jax.random.normal(jax.random.key(seed), (32, 6)).astype(params["kernel"].dtype)
        y = x @ params["kernel"]
        for layer in params["layers"]:
            y = jnp.tanh(y @ layer + params["bias"][None]) @ params["kernel"]
        return jnp.mean(y.astype(WIDE) ** 2)

    def train(compute):
        masters = tree(0)
        tx = gs.muon(0.02, axes=AXES, method="svd")
        state = tx.init(masters)

        @jax.jit
        def step(masters, state, seed):
            copy = jax.tree.map(lambda leaf: leaf.astype(compute), masters)
            updates, state = tx.update(jax.grad(loss)(copy, seed), state, masters)
            with jax.numpy_dtype_promotion("standard"):
                return optax.apply_updates(masters, updates), state

        for seed in range(10):
            masters, state = step(masters, state, jnp.asarray(seed))
        return masters

    masters, exact = train(NARROW), train(WIDE)
    assert dtypes(masters) == dtypes(exact)
    for name, start in tree(0).items():
        moved = np.linalg.norm(exact[name] - start)
        # Rounding of 2^-9, multiplied by a polar factor's 1 / sigma_min; two unrelated walks
        # would be 1.4 times as far from each other as each has moved.
        assert np.linalg.norm(masters[name] - exact[name]) < 0.3 * moved, name
        assert np.linalg.norm(masters[name] - exact[name]) > 0, name
