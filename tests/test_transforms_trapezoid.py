"""Schedules against closed forms, Optax where it has them, and the numbers of the records."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs


def at(schedule, steps):
    return [float(schedule(jnp.int32(t))) for t in steps]


def test_the_momentum_of_the_records():
    """Golden G8: warm-up over 300 steps, cool-down over the last 200 of 2900."""
    schedule = gs.trapezoid(0.95, 2900, rise=300, fall=200, foot=0.85, end=0.85)
    found = at(schedule, (0, 150, 300, 2690, 2800, 2900, 5000))
    np.testing.assert_allclose(found, [0.85, 0.9, 0.95, 0.95, 0.9, 0.85, 0.85], rtol=1e-6)


def test_the_power_cooldown_of_the_records():
    """Golden G7b: what is left at step 2690 of auxiliary and Muon's rate."""
    for fall, left in ((1413, 0.1015062), (2386.4, 0.05412168)):
        found = at(gs.trapezoid(1.0, 2900, fall=fall, power=1.2), (0, 2690, 2900))
        np.testing.assert_allclose(found, [1.0, left, 0.0], rtol=2e-5)


def test_where_optax_has_the_form_it_is_the_same():
    steps = range(0, 1100, 7)
    rise_and_fall = gs.trapezoid(0.02, 1000, rise=100, fall=300, foot=0.01, end=0.002)
    piecewise = optax.join_schedules(
        [optax.linear_schedule(0.01, 0.02, 100), optax.linear_schedule(0.02, 0.002, 300, 600)],
        [100],
    )
    np.testing.assert_allclose(at(rise_and_fall, steps), at(piecewise, steps), rtol=1e-5)
    power = gs.trapezoid(0.02, 1000, fall=300, power=1.2, end=0.001)
    theirs = optax.polynomial_schedule(0.02, 0.001, 1.2, 300, 700)
    np.testing.assert_allclose(at(power, steps), at(theirs, steps), rtol=1e-5)
    assert at(gs.trapezoid(0.3, 10), (0, 5, 20)) == at(lambda t: jnp.float32(0.3), (0, 5, 20))


def test_a_scheduled_momentum_takes_that_of_the_step_twice():
    """The records' `mom += (1 - mu)(g - mom); u = (1 - mu) g + mu mom`, in float64."""
    schedule = gs.trapezoid(0.9, 10, rise=3, fall=4, foot=0.5, end=0.6)
    gradients = np.random.default_rng(0).standard_normal((6, 3))
    tx = gs.momentum(schedule)
    state, mean = tx.init(jnp.ones(3)), 0.0
    for t, g in enumerate(gradients):
        mu = 0.5 + 0.4 * t / 3 if t < 3 else 0.9
        mean = mean + (1 - mu) * (g - mean)
        u, state = jax.jit(tx.update)(jnp.asarray(g, jnp.float32), state)
        np.testing.assert_allclose(u, (1 - mu) * g + mu * mean, rtol=1e-5)


def test_it_goes_into_recipes_and_through_injection():
    schedule = gs.trapezoid(0.5, 4, rise=2, foot=0.25)
    params = {"kernel": jnp.eye(3), "bias": jnp.ones(3)}
    injected = optax.inject_hyperparams(gs.momentum, static_args=("kind",))(schedule)
    for tx in (gs.muon(0.1, momentum=schedule), gs.normuon(0.1, momentum=schedule), injected):
        updates, _ = tx.update(params, tx.init(params), params)
        assert all(bool(jnp.isfinite(u).all()) for u in jax.tree.leaves(updates))
    first, state = injected.update(params, injected.init(params))
    np.testing.assert_allclose(first["bias"], 0.75 + 0.25 * 0.75, rtol=1e-6)
    np.testing.assert_allclose(state.hyperparams["decay"], 0.25, rtol=1e-6)


def test_what_is_no_schedule_is_refused():
    for arguments, message in (
        ({"steps": 0}, "steps >= 1, got 0"),
        ({"steps": 10, "rise": 6, "fall": 5}, r"rise \+ fall <= steps, got 6, 5 and 10"),
        ({"steps": 10, "fall": -1}, "fall >= 0"),
        ({"steps": 10, "power": 0.0}, "power > 0"),
    ):
        with pytest.raises(ValueError, match=message):
            gs.trapezoid(1.0, **arguments)
    with pytest.raises(ValueError, match="takes no schedule; take 'ema_nesterov'"):
        gs.momentum(gs.trapezoid(0.9, 10), "ema_nesterov_debiased")
