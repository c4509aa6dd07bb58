"""Floor, brake, pin, hyperball and neurons of equal length, against float64 loops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matrix_oracles import gaussian, unchecked_annotations

import gradsmith as gs

RULES = {
    "floor_update": gs.floor_update(0.35),
    "floor_update of neurons": gs.floor_update(0.35, each="neuron"),
    "brake_radius": gs.brake_radius(0.5),
    "pin_radius": gs.pin_radius(),
    "pin_radius with decay": gs.pin_radius(0.25),
    "hyperball": gs.hyperball(0.1),
    "normalize_neurons": gs.normalize_neurons(),
}


def floor(u, w, axis=None):
    norm = lambda x: np.sqrt(np.sum(x * x, axis=axis, keepdims=True))
    return u * np.maximum(1, 0.35 * norm(w) / norm(u))


def brake(u, w):
    part = np.vdot(w, u) / np.vdot(w, w)
    return u - 0.5 * part * w if part < 0 else u


def pin(d, w):
    radius = np.linalg.norm(w)
    target = max(radius + np.vdot(w, d) / radius, 1e-8)
    return (w + d) * target / np.linalg.norm(w + d) - w


def ball(u, w):
    radius = np.linalg.norm(w)
    new = w - 0.1 * radius * u / np.linalg.norm(u)
    return radius * new / np.linalg.norm(new) - w


ORACLES = {
    "floor_update": floor,
    "floor_update of neurons": lambda u, w: floor(u, w, axis=0),
    "brake_radius": brake,
    "pin_radius": pin,
    "pin_radius with decay": lambda d, w: (pin(d, w) + w) * (1 - 0.25 * (d * w < 0)) - w,
    "hyperball": ball,
    "normalize_neurons": lambda u, w: u / np.linalg.norm(u, axis=0),
}


def once(rule, update, weights):
    return rule.update(update, rule.init(weights), weights)[0]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_a_rule_is_its_formula(name, scale):
    updates, weights = scale * gaussian(5, 4, 7, seed=1), gaussian(5, 4, 7, seed=2)
    single = lambda x: jnp.asarray(x, jnp.float32)
    found = once(RULES[name], single(updates), single(weights))
    expected = [ORACLES[name](u, w) for u, w in zip(updates, weights, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6 * scale + 2e-6)


def test_the_floor_of_the_records():
    """Golden G2: W = diag(3, 4), u = diag(.4, -.3) at .3825."""
    weights, update = jnp.diag(jnp.array([3.0, 4.0]))[None], jnp.diag(jnp.array([0.4, -0.3]))[None]
    of_matrix = once(gs.floor_update(0.3825), update, weights)
    of_neurons = once(gs.floor_update(0.3825, each="neuron"), update, weights)
    np.testing.assert_allclose(jnp.diagonal(of_matrix[0]), [1.53, -1.1475], rtol=1e-6)
    np.testing.assert_allclose(jnp.diagonal(of_neurons[0]), [1.1475, -1.53], rtol=1e-6)


def test_brake_and_pin_of_the_records():
    """Golden G3: W = (3, 4), u = (1, -2), rate .1: (1.3, -1.6), and |W'| = 5.05."""
    weights = jnp.array([[[3.0, 4.0]]])
    braked = once(gs.brake_radius(), jnp.array([[[1.0, -2.0]]]), weights)
    np.testing.assert_allclose(braked[0, 0], [1.3, -1.6], rtol=1e-6)
    new = weights + once(gs.pin_radius(), -0.1 * braked, weights)
    np.testing.assert_allclose(jnp.linalg.norm(new), 5.05, rtol=1e-6)


def test_the_cautious_decay_behind_the_pin_of_the_records():
    """Golden G16c: the mask is strict, and that of the step before it is pinned."""
    weights = jnp.array([[[3.0, -4.0, 1.0, 2.0]]])
    step = -0.0375 * jnp.array([[[2.0, 1.0, 0.0, -1.9]]])
    expected = [2.92167829, -4.03669931, 0.99980169, 2.07083924]
    for decay in (0.0375 * 0.025, lambda count: 0.0375 * 0.025):
        new = weights + once(gs.pin_radius(decay), step, weights)
        np.testing.assert_allclose(new[0, 0], expected, rtol=1e-6)
    plain = weights + once(gs.pin_radius(), step, weights)
    np.testing.assert_allclose(new[0, 0] / plain[0, 0], [1 - 0.0375 * 0.025, 1, 1, 1], rtol=1e-6)


def test_a_pinned_step_across_the_weights_keeps_their_length():
    weights = jnp.array([[[3.0, 0.0]]])
    new = weights + once(gs.pin_radius(), jnp.array([[[0.0, 7.0]]]), weights)
    np.testing.assert_allclose(jnp.linalg.norm(new), 3.0, rtol=1e-6)


def test_weights_that_start_at_zero_grow_under_brake_and_pin():
    """Golden G3: 1e-8 long after the first step, and then they move."""
    weights, step = jnp.zeros((1, 2, 2)), -0.1 * jnp.eye(2)[None]
    first = weights + once(gs.pin_radius(), step, weights)
    np.testing.assert_allclose(jnp.linalg.norm(first), 1e-8, rtol=1e-5)
    braked = once(gs.brake_radius(), -step, first)
    second = first + once(gs.pin_radius(), -braked, first)
    assert jnp.linalg.norm(second) > 0.1


def test_hyperball_turns_by_the_angle_of_the_records():
    """Golden G4: atan2(rate sqrt(1 - c^2), 1 - rate c), c the cosine of update and weights."""
    u, w = gaussian(6, 5, seed=3), gaussian(6, 5, seed=4)
    c = np.vdot(u, w) / np.linalg.norm(u) / np.linalg.norm(w)
    step = once(
        gs.hyperball(0.3), jnp.asarray(u, jnp.float32)[None], jnp.asarray(w, jnp.float32)[None]
    )
    new = w + np.asarray(step[0], np.float64)
    cosine = np.vdot(new, w) / np.linalg.norm(new) / np.linalg.norm(w)
    np.testing.assert_allclose(np.linalg.norm(new), np.linalg.norm(w), rtol=1e-5)
    expected = np.arctan2(0.3 * np.sqrt(1 - c * c), 1 - 0.3 * c)
    np.testing.assert_allclose(np.arccos(cosine), expected, rtol=1e-4)


def test_muon_of_equal_neurons_does_not_see_their_scales():
    """Golden G9."""
    x = jnp.asarray(gaussian(4, 6), jnp.float32)[None]
    rule = optax.chain(gs.normalize_neurons(), gs.polar_factor())
    scaled = x * jnp.array([[[1.0, 3.0, 0.1, 7.0, 2.0, 0.5]]])
    np.testing.assert_allclose(once(rule, x, x), once(rule, scaled, x), atol=1e-4)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64])
def test_zeros_stay_finite_in_every_dtype(name, dtype):
    ones, zeros = jnp.ones((1, 3, 2), dtype), jnp.zeros((1, 3, 2), dtype)
    for update, weights in ((zeros, ones), (ones, zeros), (zeros, zeros)):
        found = once(RULES[name], update, weights)
        assert found.dtype == dtype
        assert jnp.isfinite(found).all()
        if not update.any():
            assert jnp.abs(found).max() < 1e-3


@pytest.mark.parametrize("name", RULES)
def test_numbers_near_the_ends_of_float32_are_kept(name):
    for scale in (1e-30, 1e30):
        x = jnp.full((1, 4, 4), scale, jnp.float32)
        assert jnp.isfinite(once(RULES[name], x, jnp.ones_like(x))).all()


@pytest.mark.parametrize("name", [name for name in RULES if name != "normalize_neurons"])
def test_without_params_the_error_says_what_to_call(name):
    stack = jnp.ones((1, 2, 2))
    with pytest.raises(ValueError, match=r"needs the parameters: call update\(grads"):
        RULES[name].update(stack, RULES[name].init(stack))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="ratio >= 0, got -1"):
        gs.floor_update(-1)
    with unchecked_annotations(), pytest.raises(ValueError, match="no each is called 'row'"):
        gs.floor_update(each="row")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="outward >= 0"):
        gs.brake_radius(-0.5)
    with pytest.raises(ValueError, match="pin_radius needs 0 <= decay < 1"):
        gs.pin_radius(1.5)


def test_record_5_and_the_stack_of_record_36_on_a_tree():
    """They chain on either side of the rate, take schedules, and train."""
    params = {
        "up": jnp.asarray(gaussian(6, 8), jnp.float32),
        "down": jnp.asarray(gaussian(8, 6), jnp.float32),
    }
    rate = optax.linear_schedule(0.05, 0.0, 20)
    record_5 = optax.chain(gs.momentum(0.95), gs.orthogonalize(), gs.per_stack(gs.hyperball(rate)))
    braked = optax.chain(gs.polar_factor(), gs.brake_radius(rate), gs.floor_update(rate))
    pinned = optax.chain(
        gs.momentum(0.95),
        gs.per_stack(braked),
        gs.scale_by_learning_rate(rate),
        gs.per_stack(gs.pin_radius()),
    )
    loss = lambda p: jnp.sum(p["up"] ** 4) + jnp.sum((p["down"] - 1) ** 2)
    for tx in (record_5, pinned):
        now, state = params, tx.init(params)
        for _ in range(20):
            updates, state = jax.jit(tx.update)(jax.grad(loss)(now), state, now)
            now = optax.apply_updates(now, updates)
        assert loss(now) < loss(params)
