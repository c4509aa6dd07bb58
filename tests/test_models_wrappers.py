"""Optax's own wrappers treat a lifted optimizer as they treat one written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs

pytestmark = pytest.mark.usefixtures("standard_promotion")
AXES = {"layers": gs.MatrixAxes(batch_axis=0)}
SHAPES = {"kernel": (4, 6), "layers": (2, 6, 4), "bias": (6,), "embedding": (9, 4)}
RATE = 0.1


def tree(seed):
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    shapes = SHAPES.items()
    return {n: jax.random.normal(key, shape) for key, (n, shape) in zip(keys, shapes, strict=True)}


def lifted(rate=RATE):
    def matrices(axes):
        rules = optax.chain(gs.polar_factor("svd"), gs.scale_by_aspect_ratio())
        return optax.chain(
            optax.trace(0.9), gs.per_stack(rules, axes=axes), optax.scale_by_learning_rate(rate)
        )

    return gs.partition_by_role(matrices, optax.sgd(rate, 0.9), axes=AXES)


def by_hand(rate=RATE):
    """The same in plain Optax, without gradsmith: the oracle."""

    def polar(x):
        u, _, vt = jnp.linalg.svd(x, full_matrices=False)
        return u @ vt * max(1.0, x.shape[-1] / x.shape[-2]) ** 0.5

    direction = optax.stateless(lambda updates, params: jax.tree.map(polar, updates))
    hidden = optax.chain(optax.trace(0.9), direction, optax.scale_by_learning_rate(rate))
    label = lambda params: {name: str(name in ("kernel", "layers")) for name in params}
    return optax.partition({"True": hidden, "False": optax.sgd(rate, 0.9)}, label)


def frozen_layers(tx):
    return optax.chain(tx, optax.transforms.freeze({name: name == "layers" for name in SHAPES}))


def masked_kernel(tx):
    return optax.masked(tx, {name: name != "kernel" for name in SHAPES})


WRAPPERS = {
    "multi_steps": lambda tx: optax.MultiSteps(tx, 2).gradient_transformation(),
    "masked": masked_kernel,
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 5),
    "schedule_free": lambda tx: optax.contrib.schedule_free(tx, RATE, b1=0.9),
    "ema": lambda tx: optax.chain(tx, optax.ema(0.9)),
    "clip_by_global_norm": lambda tx: optax.chain(optax.clip_by_global_norm(0.5), tx),
    "freeze": frozen_layers,
    "inside_partition": lambda tx: optax.partition(
        {"ours": tx, "theirs": optax.sgd(1.0)},
        lambda params: {name: "theirs" if name == "bias" else "ours" for name in params},
    ),
}


def train(tx, params=None, grads_of=tree):
    params = tree(0) if params is None else params
    state = tx.init(params)

    @jax.jit
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for seed in range(1, 5):
        params, state = step(params, state, grads_of(seed))
    assert step._cache_size() == 1
    return params


def assert_close(found, expected):
    for name in SHAPES:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_does_to_ours_what_it_does_to_one_by_hand(wrapper):
    wrap = WRAPPERS[wrapper]
    found = train(wrap(lifted()))
    assert_close(found, train(wrap(by_hand())))
    assert any(np.abs(found[name] - tree(0)[name]).max() > 0.01 for name in SHAPES)


def test_apply_if_finite_passes_over_a_step():
    def grads_of(seed):
        grads = tree(seed)
        return jax.tree.map(lambda g: g * jnp.nan, grads) if seed == 2 else grads

    found = train(optax.apply_if_finite(lifted(), 5), grads_of=grads_of)
    assert_close(found, train(optax.apply_if_finite(by_hand(), 5), grads_of=grads_of))
    assert all(np.isfinite(leaf).all() for leaf in found.values())


def test_lookahead_synchronizes_ours_as_one_by_hand():
    start = optax.LookaheadParams.init_synced(tree(0))
    wrap = lambda tx: optax.lookahead(tx, 2, 0.5)
    found, expected = train(wrap(lifted()), start), train(wrap(by_hand()), start)
    assert_close(found.fast, expected.fast)
    assert_close(found.slow, expected.slow)


def test_map_params_reaches_the_moments_of_every_role():
    tx = lifted()
    state = tx.init(tree(0))
    halved = optax.tree.map_params(tx, lambda leaf: leaf.astype(jnp.bfloat16), state)
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(halved) if leaf.ndim]
    assert dtypes == [jnp.bfloat16] * len(SHAPES)


def test_rates_momentum_and_decay_of_muon_follow_injected_schedules():
    """Values may change every step without compiling anew."""
    inject = optax.inject_hyperparams(gs.muon)
    rate, decay = optax.linear_schedule(0.1, 0.0, 4), optax.linear_schedule(0.0, 0.2, 4)
    injected = inject(
        rate, momentum=lambda count: 0.8 + 0.04 * count, weight_decay=decay, axes=AXES
    )
    params = tree(0)
    state = injected.init(params)
    update = jax.jit(injected.update)
    momentum = jax.tree.map(jnp.zeros_like, params)
    for step in range(3):
        updates, state = update(tree(step), state, params)
        beta = 0.8 + 0.04 * step
        lerp = lambda m, g, beta=beta: beta * m + (1 - beta) * g
        momentum = jax.tree.map(lerp, momentum, tree(step))
        look_ahead = lerp(momentum["kernel"], tree(step)["kernel"])
        direction = gs.matrix.newton_schulz(look_ahead) * (6 / 4) ** 0.5
        expected = -rate(step) * (direction + decay(step) * params["kernel"])
        np.testing.assert_allclose(updates["kernel"], expected, atol=1e-4)
        np.testing.assert_allclose(state.hyperparams["momentum"], beta, rtol=1e-6)
    assert update._cache_size() == 1
