"""Averages to evaluate: the moving average of ours, and schedule-free by Optax around ours."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs


def train(optimizer, params, gradient, steps):
    state, update, seen = optimizer.init(params), jax.jit(optimizer.update), []
    for _ in range(steps):
        updates, state = update(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
        seen.append((params, state))
    return seen


def test_the_average_is_that_of_the_weights_after_each_step():
    optimizer = optax.chain(optax.sgd(0.1), gs.average_weights(0.9))
    start = {"w": jnp.asarray([1.0, -2.0])}
    weights, total, mean = [], 0.0, 0.0
    for params, state in train(optimizer, start, lambda p: p, 5):
        mean, total = 0.9 * mean + 0.1 * np.asarray(params["w"], np.float64), 0.9 * total + 0.1
        weights.append(params["w"])
        np.testing.assert_allclose(gs.eval_params(state, params)["w"], mean / total, rtol=1e-5)
    assert not np.allclose(weights[-1], mean / total)


def test_before_the_first_step_the_average_is_the_weights():
    params = {"w": jnp.asarray([1.0, -2.0], jnp.bfloat16)}
    optimizer = optax.chain(gs.muon(0.1), gs.average_weights())
    read = gs.eval_params(optimizer.init(params), params)
    np.testing.assert_array_equal(read["w"], params["w"])
    assert read["w"].dtype == jnp.bfloat16


def test_the_average_of_bfloat16_weights_has_digits_they_lack():
    params = jnp.asarray([1.0], jnp.bfloat16)
    ((_, _), (params, state)) = train(
        optax.chain(optax.sgd(1.0), gs.average_weights(0.5)),
        params,
        lambda p: jnp.full_like(p, 2**-7),
        2,
    )
    (average,) = [node for node in state if hasattr(node, "average")]
    assert average.average.dtype == jnp.float32
    np.testing.assert_allclose(average.average / average.total, 1 - 2**-7 * (1 + 2 * 2) / 3)


def test_what_is_missing_is_named():
    tx = gs.average_weights()
    with pytest.raises(ValueError, match=r"needs the parameters: call update\(grads"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    with pytest.raises(ValueError, match=r"average_weights needs 0 <= decay < 1, got 1\.0"):
        gs.average_weights(1.0)


def test_schedule_free_descent_on_a_constant_gradient_is_its_closed_form():
    """Golden A2: `z_t = -r g t`, `x_t = -r g (t + 1) / 2`, and the weights `y = 0.1 z + 0.9 x`."""
    optimizer = optax.contrib.schedule_free(optax.sgd(0.5), 0.5, b1=0.9)
    g = jnp.asarray([2.0, -4.0])
    for t, (y, state) in enumerate(train(optimizer, jnp.zeros(2), lambda p: g, 6), 1):
        z, x = -0.5 * g * t, -0.5 * g * (t + 1) / 2
        np.testing.assert_allclose(y, 0.1 * z + 0.9 * x, rtol=1e-5)
        read = optax.contrib.schedule_free_eval_params(state, y)
        np.testing.assert_allclose(read, x, rtol=1e-5)


def test_schedule_free_goes_around_muon():
    """The weights of a loop in float64: `z` takes Muon's steps at the gradients of `y`."""
    muon = gs.muon(0.1, momentum=0.0, method="svd")
    optimizer = optax.contrib.schedule_free(muon, 0.1, b1=0.9)
    start = np.random.default_rng(0).standard_normal((4, 4))
    z = x = y = start
    seen = train(optimizer, {"w": jnp.asarray(start, jnp.float32)}, lambda p: p, 4)
    for t, (params, _) in enumerate(seen, 1):
        u, _, vt = np.linalg.svd(y)
        z = z - 0.1 * u @ vt
        x = x + (z - x) / t
        y = 0.1 * z + 0.9 * x
        np.testing.assert_allclose(params["w"], y, atol=1e-5)
