"""EMA-Nesterov and the average of the tail, against loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import gradsmith as gs

DTYPES = [jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64]
CURVATURE = np.array([1.0, 10.0, 0.1])


def run(tx, params, steps, gradient):
    state, update, seen = tx.init(params), jax.jit(tx.update), []
    for _ in range(steps):
        updates, state = update(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
        seen.append(params)
    return seen, state


def test_the_shifted_point_is_the_loop_that_moves_its_weights():
    """Golden G5a: the code of the records moves the weights before each step and after it."""
    ratio = lambda t: np.minimum(1, (100 - t) / 50)
    x, previous, mean = np.ones(3), np.ones(3), np.zeros(3)
    for t in range(100):
        if 20 <= t < 60:
            x = x + 0.6 * ratio(t - 1) * mean
        x = x - 0.05 * ratio(t) * CURVATURE * x
        mean, previous = 0.99 * mean + 0.01 * (x - previous), x

    def ahead(step):
        shift = 0.6 * jnp.minimum(1.0, (101 - step) / 50)
        return jnp.where((step >= 20) & (step < 60), shift, 0.0)

    rate = lambda step: 0.05 * jnp.minimum(1.0, (100 - step) / 50)
    tx = optax.chain(optax.sgd(rate), gs.ema_nesterov(0.99, ahead))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        curvature = jnp.asarray(CURVATURE)
        seen, state = run(tx, jnp.ones(3), 100, lambda p: curvature * p)
        np.testing.assert_allclose(gs.eval_params(state, seen[-1]), x, rtol=1e-6)


def test_weights_under_a_steady_step_go_at_the_speed_of_the_records():
    """Golden G5b: `1 / (1 - ahead)`."""
    tx = optax.chain(optax.sgd(1.0), gs.ema_nesterov(0.9, 0.3))
    seen, _ = run(tx, jnp.zeros(1), 300, lambda p: -jnp.ones(1))
    np.testing.assert_allclose(seen[-1] - seen[-2], 1 / 0.7, rtol=1e-4)


def test_not_ahead_is_the_optimizer_inside():
    tx = optax.chain(gs.scale_by_adam(), gs.scale_by_learning_rate(0.1))
    plain, _ = run(tx, jnp.ones(3), 5, lambda p: p)
    shifted, state = run(optax.chain(tx, gs.ema_nesterov(ahead=0.0)), jnp.ones(3), 5, lambda p: p)
    np.testing.assert_array_equal(plain, shifted)
    np.testing.assert_array_equal(gs.eval_params(state, shifted[-1]), shifted[-1])


def tail_loop(weights, start, decay, share):
    """What is evaluated after every step, from the weights after every step."""
    average, read = None, []
    for s, w in enumerate(weights, 1):
        average = w if s <= start else decay * average + (1 - decay) * w
        read.append(w if s < start else (1 - share) * w + share * average)
    return read


def test_the_tail_is_the_loop_of_the_records():
    tx = optax.chain(optax.sgd(0.1), gs.average_tail(3, decay=0.75, share=0.6))
    params, state = jnp.array([2.0, -1.0]), tx.init(jnp.array([2.0, -1.0]))
    seen, read = [], []
    for _ in range(7):
        updates, state = tx.update(params, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(np.asarray(params, np.float64))
        read.append(gs.eval_params(state, params))
    np.testing.assert_allclose(read, tail_loop(seen, 3, 0.75, 0.6), rtol=1e-6)
    np.testing.assert_array_equal(read[2], np.asarray(seen[2], np.float32))


def test_the_tail_lags_as_in_the_records():
    """Golden G6a, of weights on a line, 290 steps after the start; from 2400 on as from 10 on."""
    tx = optax.chain(optax.sgd(1.0), gs.average_tail(10))
    params = jnp.zeros(1, jnp.float32)
    seen, state = run(tx, params, 300, lambda p: -jnp.ones(1))
    lag = seen[-1] - gs.eval_params(state, seen[-1])
    np.testing.assert_allclose(lag, 76.55038, rtol=1e-4)


def test_the_start_weighs_in_the_tail_as_in_the_records():
    """Golden G6b: `(149 / 150)^290`, where `average_weights` would have less."""
    weights = jnp.zeros(1)
    tx = gs.average_tail(1, share=1.0)
    state = tx.init(weights)
    _, state = tx.update(jnp.ones(1), state, weights)
    update = jax.jit(tx.update)
    for _ in range(290):
        _, state = update(jnp.zeros(1), state, weights)
    np.testing.assert_allclose(gs.eval_params(state, weights), 0.14373, rtol=1e-3)


def stack(ahead=0.3):
    return optax.chain(optax.sgd(0.1), gs.average_tail(3, 0.75, 0.6), gs.ema_nesterov(0.9, ahead))


def test_the_tail_averages_what_the_parameters_are_ahead_of():
    """As in record 46: the average is of `x`, and `x` is found from the parameters first."""
    x, mean, weights = np.array([2.0, -1.0]), np.zeros(2), []
    for _ in range(6):
        y = x + 0.3 * mean
        new = y - 0.1 * y
        mean, x = 0.9 * mean + 0.1 * (new - x), new
        weights.append(x)
    seen, state = run(stack(), jnp.array([2.0, -1.0]), 6, lambda p: p)
    expected = tail_loop(weights, 3, 0.75, 0.6)[-1]
    np.testing.assert_allclose(gs.eval_params(state, seen[-1]), expected, rtol=1e-5)
    np.testing.assert_allclose(seen[-1], x + 0.3 * mean, rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_kept_and_averages_are_wide(dtype):
    params = {"w": jnp.ones((3, 2), dtype), "b": jnp.zeros(2, dtype)}
    tx = stack()
    seen, state = run(tx, params, 4, lambda p: p)
    read = gs.eval_params(state, seen[-1])
    assert all(x.dtype == dtype and bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(read))
    assert all(x.dtype == dtype for x in jax.tree.leaves(seen[-1]))
    wide = jnp.float32 if dtype != jnp.complex64 else dtype
    assert state[1].average["w"].dtype == state[2].velocity["w"].dtype == wide


def test_an_injected_number_may_change_on_the_way():
    tx = optax.inject_hyperparams(gs.ema_nesterov)(decay=0.5, ahead=0.5)
    params = jnp.zeros(1)
    state = tx.init(params)
    updates, state = tx.update(jnp.ones(1), state)
    params = params + updates
    state.hyperparams["ahead"] = jnp.asarray(0.0)
    np.testing.assert_allclose(gs.eval_params(state, params), 1.0)
    updates, state = tx.update(jnp.zeros(1), state)
    np.testing.assert_allclose(params + updates, gs.eval_params(state, params + updates))


def test_on_a_mesh_and_from_a_checkpoint_it_goes_on_as_alone(tmp_path):
    start = jnp.arange(8.0)
    alone, _ = run(stack(), start, 6, lambda p: p)
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        home = NamedSharding(mesh, P("x"))
        tx, params = stack(), jax.device_put(start, home)
        seen, state = run(tx, params, 3, lambda p: p)
        assert state[1].average.sharding == state[2].velocity.sharding == home
        saver = ocp.PyTreeCheckpointer()
        saver.save(tmp_path / "state", state)
        back = ocp.checkpoint_utils.construct_restore_args(state)
        state = saver.restore(tmp_path / "state", item=state, restore_args=back)
        params, update = seen[-1], jax.jit(tx.update)
        for _ in range(3):
            updates, state = update(params, state, params)
            params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params, alone[-1], rtol=1e-6)


def test_under_vmap_and_with_derivatives():
    def end(start, decay):
        tx = optax.chain(optax.sgd(0.1), gs.average_tail(1, decay), gs.ema_nesterov(decay))
        seen, state = run(tx, start, 3, lambda p: p**3)
        return jnp.sum(gs.eval_params(state, seen[-1]) ** 2)

    with jax.enable_x64(True):
        start, h = jnp.array([1.0, 0.5]), 1e-6
        slope = jax.grad(end, 1)(start, 0.9)
        expected = (end(start, 0.9 + h) - end(start, 0.9 - h)) / (2 * h)
        np.testing.assert_allclose(slope, expected, rtol=1e-5)
        both = jax.vmap(end, (0, None))(jnp.stack([start, 2 * start]), 0.9)
        np.testing.assert_allclose(both[1], end(2 * start, 0.9), rtol=1e-9)


def test_bad_arguments_are_refused():
    for build, message in (
        (lambda: gs.ema_nesterov(1.0), "ema_nesterov needs 0 <= decay < 1"),
        (lambda: gs.ema_nesterov(ahead=-0.1), "ema_nesterov needs ahead >= 0"),
        (lambda: gs.average_tail(-1), "average_tail needs start >= 0"),
        (lambda: gs.average_tail(1, decay=1.5), "average_tail needs 0 <= decay < 1, got 1.5"),
        (lambda: gs.average_tail(1, share=1.5), "average_tail needs 0 <= share <= 1, got 1.5"),
    ):
        with pytest.raises(ValueError, match=message):
            build()
    tx = gs.average_tail(1)
    with pytest.raises(ValueError, match="average_tail needs the parameters"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
