"""One model in many layouts is one model: trajectories agree, blocks are matrices of their own."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs
from gradsmith import MatrixAxes

LAYERS, D, HEADS, K = 3, 6, 2, 4
# The rules below amplify rounding little: the polar factor is exact, not iterated.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


class WhitenState(NamedTuple):
    count: jax.Array
    inverse: jax.Array


def whiten():
    """A stateful rule: a running fan-in factor, inverted every second step in a real branch."""

    def init_fn(stack):
        k, m, _ = stack.shape
        return WhitenState(jnp.zeros((), jnp.int32), jnp.tile(jnp.eye(m), (k, 1, 1)))

    def update_fn(updates, state, params=None):
        m = updates.shape[1]
        fresh = lambda: jnp.linalg.inv(jnp.eye(m)[None] + updates @ updates.mT)
        inverse = jax.lax.cond(state.count % 2 == 0, fresh, lambda: state.inverse)
        return inverse @ updates, WhitenState(state.count + 1, inverse)

    return optax.GradientTransformation(init_fn, update_fn)


def optimizer(axes):
    rules = optax.chain(whiten(), gs.polar_factor("svd"), gs.scale_by_aspect_ratio())
    return optax.chain(
        optax.trace(0.9), gs.per_stack(rules, axes=axes), optax.scale_by_learning_rate(0.05)
    )


def weights():
    """The model: for every layer one matrix (fan_in, fan_out) in and one out."""
    keys = jax.random.split(jax.random.key(0), 2)
    return (
        jax.random.normal(keys[0], (LAYERS, D, HEADS * K)) / D,
        jax.random.normal(keys[1], (LAYERS, HEADS * K, D)) / D,
    )


def loss(ins, outs):
    x = jax.random.normal(jax.random.key(1), (16, D))
    for w_in, w_out in zip(ins, outs, strict=True):
        x = x + jnp.tanh(x @ w_in) @ w_out
    return jnp.mean((x - jnp.roll(x, 1, axis=0)) ** 2)


def swap(x):
    return jnp.swapaxes(x, -1, -2)


def per_layer(leaves):
    return dict(enumerate(leaves))


def stacked(leaves):
    return jnp.stack([leaves[i] for i in range(LAYERS)])


LAYOUTS = {
    "in_out": (
        lambda ins, outs: {"in": per_layer(ins), "out": per_layer(outs)},
        lambda p: (stacked(p["in"]), stacked(p["out"])),
        None,
    ),
    "out_in": (
        lambda ins, outs: {"in": per_layer(swap(ins)), "out": per_layer(swap(outs))},
        lambda p: (swap(stacked(p["in"])), swap(stacked(p["out"]))),
        MatrixAxes(1, 0),
    ),
    "scanned": (
        lambda ins, outs: {"in": ins, "out": outs},
        lambda p: (p["in"], p["out"]),
        MatrixAxes(batch_axis=0),
    ),
    "heads": (
        lambda ins, outs: {
            "in": ins.reshape(LAYERS, D, HEADS, K),
            "out": outs.reshape(LAYERS, HEADS, K, D),
        },
        lambda p: (p["in"].reshape(LAYERS, D, -1), p["out"].reshape(LAYERS, -1, D)),
        {"in": MatrixAxes(1, (2, 3), 0), "out": MatrixAxes((1, 2), 3, 0)},
    ),
    "mixed": (
        lambda ins, outs: {
            "first": ins[0],
            "rest": jnp.moveaxis(ins[1:], 0, 1),  # layers in the middle, as MaxText scans
            "out": swap(outs),
        },
        lambda p: (
            jnp.concatenate([p["first"][None], jnp.moveaxis(p["rest"], 1, 0)]),
            swap(p["out"]),
        ),
        {"rest": MatrixAxes(0, 2, 1), "out": MatrixAxes(2, 1, 0)},
    ),
}


def train(layout):
    pack, unpack, axes = LAYOUTS[layout]
    tx = optimizer(axes)
    params = pack(*weights())
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        grads = jax.grad(lambda p: loss(*unpack(p)))(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(6):
        params, state = step(params, state)
    assert step._cache_size() == 1
    return unpack(params)


@pytest.fixture(scope="module")
def trained():
    return train("in_out")


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "in_out"])
def test_one_model_trains_the_same_in_every_layout(layout, trained):
    for found, expected, start in zip(train(layout), trained, weights(), strict=True):
        np.testing.assert_allclose(found, expected, **CLOSE)
        assert np.abs(expected - start).max() > 0.05


def test_the_wrong_side_is_another_optimizer(trained):
    """What the test above can see: fan-in and fan-out swapped."""
    pack, unpack, _ = LAYOUTS["in_out"]
    right, wrong = optimizer(None), optimizer(MatrixAxes(1, 0))
    params = pack(*weights())
    grads = jax.grad(lambda p: loss(*unpack(p)))(params)
    one, other = (jax.jit(tx.update)(grads, tx.init(params))[0] for tx in (right, wrong))
    assert np.abs(one["in"][0] - other["in"][0]).max() > 1e-3


BLOCKS = {
    "query": (D, 4 * K),
    "key": (D, 2 * K),
    "value": (D, 2 * K),
    "gate": (D, 5),
    "up": (D, 5),
}


def gradients(seed):
    keys = jax.random.split(jax.random.key(seed), len(BLOCKS))
    shapes = BLOCKS.items()
    return {n: jax.random.normal(key, shape) for key, (n, shape) in zip(keys, shapes, strict=True)}


def fuse(parts):
    """The same five matrices in two fused leaves, one of them stored as (out, in)."""
    qkv = jnp.concatenate([parts["query"], parts["key"], parts["value"]], axis=1)
    return {"qkv": qkv.T, "gate_up": jnp.concatenate([parts["gate"], parts["up"]], axis=1)}


FUSED = {
    "qkv": MatrixAxes(1, 0, cut_axis=0, blocks=(4 * K, 2 * K, 2 * K)),
    "gate_up": MatrixAxes(cut_axis=1, blocks=5),
}


def test_a_fused_leaf_is_updated_as_its_blocks_are_alone():
    """With unequal blocks, state and shape scales: what a block sees is its own shape."""
    fused, alone = optimizer(FUSED), optimizer(None)
    states = fused.init(fuse(gradients(0))), alone.init(gradients(0))
    update_fused, update_alone = jax.jit(fused.update), jax.jit(alone.update)
    for seed in range(3):
        updates, one = update_fused(fuse(gradients(seed)), states[0])
        expected, other = update_alone(gradients(seed), states[1])
        states = one, other
        for name, update in fuse(expected).items():
            np.testing.assert_allclose(updates[name], update, **CLOSE, err_msg=name)


def test_shape_scales_see_the_block_and_uncut_axes_the_leaf():
    grads = fuse(gradients(0))
    by_block = gs.per_stack(gs.match_operator_norm(), axes=FUSED)
    by_leaf = gs.per_stack(gs.match_operator_norm(), axes=gs.without_cuts(FUSED))
    factors = lambda tx: jax.tree.map(jnp.divide, tx.update(grads, tx.init(grads))[0], grads)
    rows = np.repeat([4 * K, 2 * K, 2 * K], [4 * K, 2 * K, 2 * K])
    expected = np.broadcast_to(np.sqrt(rows / D)[:, None], (8 * K, D))
    np.testing.assert_allclose(factors(by_block)["qkv"], expected, rtol=1e-5)
    np.testing.assert_allclose(factors(by_leaf)["qkv"], np.sqrt(8 * K / D), rtol=1e-5)
    np.testing.assert_allclose(factors(by_leaf)["gate_up"], np.sqrt(10 / D), rtol=1e-5)


@pytest.mark.parametrize("axes", [lambda path, leaf: FUSED[path], FUSED], ids=["function", "tree"])
def test_uncut_takes_every_form_of_axes(axes):
    grads = fuse(gradients(0))
    seen = []
    rule = optax.stateless(lambda updates, params: seen.append(updates.shape) or updates)
    tx = gs.per_stack(rule, axes=gs.without_cuts(axes))
    tx.update(grads, tx.init(grads))
    assert sorted(seen) == [(1, D, 8 * K), (1, D, 10)] or sorted(seen) == [
        (1, D, 10),
        (1, D, 8 * K),
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_leaf_of_nan_changes_no_other(layout):
    pack, unpack, axes = LAYOUTS[layout]
    tx = optimizer(axes)
    params = pack(*weights())
    grads = jax.grad(lambda p: loss(*unpack(p)))(params)
    leaves, structure = jax.tree.flatten(grads)
    broken = jax.tree.unflatten(structure, [leaves[0] * jnp.nan, *leaves[1:]])
    state, update = tx.init(params), jax.jit(tx.update)
    expected, _ = update(grads, state)
    updates, _ = update(broken, state)
    pairs = list(zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True))
    assert np.isnan(pairs[0][0]).all()
    for update, other in pairs[1:]:
        np.testing.assert_array_equal(update, other)


def test_a_layer_of_nan_changes_no_other_layer_of_its_leaf():
    tx = gs.muon(0.1, axes=MatrixAxes(batch_axis=0))
    grads = weights()[0]
    expected, _ = tx.update(grads, tx.init(grads))
    updates, _ = tx.update(grads.at[1].set(jnp.nan), tx.init(grads))
    assert np.isnan(updates[1]).all()
    np.testing.assert_array_equal(updates[::2], expected[::2])
