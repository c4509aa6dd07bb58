import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs

GRADS = np.random.default_rng(0).standard_normal((8, 3, 4))


def updates_of(tx, grads):
    state = tx.init(jnp.asarray(grads[0], jnp.float32))
    for g in grads:
        out, state = tx.update(jnp.asarray(g, jnp.float32), state)
        yield np.asarray(out, np.float64)


def test_the_first_step_is_a_sign():
    """Golden A1: `(1 + alpha (1 - b3)) sign(g)`."""
    (update,) = updates_of(gs.scale_by_ademamix(b3=0.75, alpha=8.0, eps=0.0), GRADS[:1])
    np.testing.assert_allclose(update, 3 * np.sign(GRADS[0]), rtol=1e-5)


def test_ademamix_is_its_loop_with_schedules_of_the_step():
    real = lambda step: jnp.asarray(step, jnp.float32)
    b3, alpha = (lambda step: 0.9 + 0.01 * real(step)), (lambda step: 0.5 * real(step))
    ours = updates_of(gs.scale_by_ademamix(0.8, 0.95, b3, alpha, 1e-8), GRADS)
    fast = slow = v = 0.0
    for t, (g, update) in enumerate(zip(GRADS, ours, strict=True), 1):
        before = t - 1  # the steps so far, as Optax calls schedules
        fast, slow = 0.8 * fast + 0.2 * g, b3(before) * slow + (1 - b3(before)) * g
        v = 0.95 * v + 0.05 * g**2
        mixed = fast / (1 - 0.8**t) + alpha(before) * slow
        expected = mixed / (np.sqrt(v / (1 - 0.95**t)) + 1e-8)
        np.testing.assert_allclose(update, expected, rtol=1e-4, atol=1e-5)


def test_ademamix_without_the_slow_mean_is_adam():
    ours = updates_of(gs.scale_by_ademamix(alpha=0.0), GRADS)
    for update, expected in zip(ours, updates_of(gs.scale_by_adam(), GRADS), strict=True):
        np.testing.assert_allclose(update, expected, rtol=1e-6)


@pytest.mark.usefixtures("standard_promotion")
def test_ademamix_is_optaxs_in_float32():
    theirs = optax.contrib.scale_by_ademamix(0.9, 0.95, 0.999, 5.0)
    ours = gs.scale_by_ademamix(0.9, 0.95, 0.999, 5.0)
    for one, other in zip(updates_of(ours, GRADS), updates_of(theirs, GRADS), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_the_warm_up_grows_the_half_life_linearly():
    """The formula of the paper, `f(b) = log(1/2) / log(b) - 1`, evaluated in float64."""
    schedules = gs.ademamix_warmup(200, b1=0.9, b3=0.9999, alpha=6.0)
    f = lambda b: np.log(0.5) / np.log(b) - 1
    for step in (0, 50, 200, 500):
        x = min(step / 200, 1)
        expected = 0.5 ** (1 / (1 + (1 - x) * f(0.9) + x * f(0.9999)))
        np.testing.assert_allclose(schedules["b3"](step), expected, rtol=1e-6)
        np.testing.assert_allclose(schedules["alpha"](step), 6 * x, rtol=1e-6)
    tx = gs.scale_by_ademamix(**schedules)
    step = lambda state, g: tx.update(g, state)[::-1]
    _, updates = jax.lax.scan(step, tx.init(jnp.zeros((3, 4))), jnp.asarray(GRADS, jnp.float32))
    assert np.isfinite(updates).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.complex64])
def test_zero_is_zero_and_the_state_is_wide_in_every_dtype(dtype):
    grads = jnp.asarray([0.0, 1.0], dtype)
    tx = gs.scale_by_ademamix()
    update, state = tx.update(grads, tx.init(grads))
    assert update.dtype == dtype
    assert update[0] == 0
    assert {x.dtype.itemsize for x in jax.tree.leaves(state)} <= {4, 8}


def test_a_decay_that_bfloat16_rounds_to_one_is_the_largest_below():
    """`optax.inject_hyperparams` gives numbers the dtype of the parameters; 1 / 256 below one."""
    one = jnp.asarray(0.999, jnp.bfloat16)
    tx, near = gs.scale_by_adam(0.9, one), gs.scale_by_adam(0.9, 1 - 2**-8)
    for update, expected in zip(updates_of(tx, GRADS), updates_of(near, GRADS), strict=True):
        np.testing.assert_allclose(update, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: gs.scale_by_ademamix(b3=1.0), r"scale_by_ademamix needs 0 <= b3 < 1, got 1\.0"),
        (lambda: gs.scale_by_ademamix(alpha=-1.0), "scale_by_ademamix needs alpha >= 0"),
        (lambda: gs.ademamix_warmup(0), "ademamix_warmup needs steps >= 1, got 0"),
        (lambda: gs.ademamix_warmup(9, b1=0.0), r"ademamix_warmup needs 0 < b1 < 1, got 0\.0"),
    ],
)
def test_bad_arguments_are_refused_when_building(build, message):
    with pytest.raises(ValueError, match=message):
        build()
