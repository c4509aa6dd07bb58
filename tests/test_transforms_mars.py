import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradsmith as gs

GRADS = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)


def updates_of(tx, grads):
    state = tx.init(jnp.asarray(grads[0]))
    for g in grads:
        out, state = tx.update(jnp.asarray(g), state)
        yield np.asarray(out)


def test_the_first_gradient_changed_from_zero():
    """Golden M14: the factor is `1 + 0.025 x 0.95 / 0.05`."""
    (update,) = updates_of(gs.correct_by_mars(max_norm=None), GRADS[:1])
    np.testing.assert_allclose(update, 1.475 * GRADS[0], rtol=1e-5)


def test_mars_is_its_loop():
    previous = 0.0
    for g, update in zip(GRADS, updates_of(gs.correct_by_mars(0.1, 0.9, 2.0), GRADS), strict=True):
        corrected = g + 0.1 * 0.9 / 0.1 * (g - previous)
        expected = corrected / max(1, np.linalg.norm(corrected) / 2)
        np.testing.assert_allclose(update, expected, rtol=1e-4, atol=1e-5)
        previous = g


def test_a_short_gradient_is_not_clipped_and_zero_stays_zero():
    tx = gs.correct_by_mars(gamma=0.0)
    for g in (0 * GRADS[0], 0.1 * GRADS[0]):
        (update,) = updates_of(tx, g[None])
        np.testing.assert_array_equal(update, g)


def test_per_matrix_clips_each_matrix_of_a_stack_and_the_plain_one_the_leaf():
    stack = 10 * GRADS
    axes = gs.MatrixAxes(-2, -1, 0)
    (each,) = updates_of(gs.per_matrix(gs.correct_by_mars(), axes=axes), stack[None])
    (whole,) = updates_of(gs.correct_by_mars(), stack[None])
    np.testing.assert_allclose(np.linalg.norm(each, axis=(1, 2)), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(whole), 1.0, rtol=1e-5)


@pytest.mark.parametrize("tx", [gs.correct_by_mars(), gs.per_matrix(gs.correct_by_mars())])
def test_gradients_and_state_may_both_be_donated(tx):
    """The gradient is kept for the next step, and an array may be donated once."""
    state = tx.init(jnp.asarray(GRADS[0]))
    step = jax.jit(lambda g, state: tx.update(g, state), donate_argnums=(0, 1))
    for g in GRADS[:3]:
        g = jnp.asarray(g)
        _, state = step(g, state)
    np.testing.assert_allclose(jax.tree.leaves(state)[0].reshape(3, 4), GRADS[2])


def test_the_gradient_that_is_kept_is_not_the_one_that_was_given():
    g, tx = jnp.asarray(GRADS[0]), gs.correct_by_mars()
    _, state = tx.update(g, tx.init(g))
    jax.jit(lambda g, state: tx.update(g, state), donate_argnums=(0, 1))(g, state)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.complex64])
def test_every_dtype_runs_under_scan(dtype):
    tx = gs.correct_by_mars()
    grads = jnp.asarray(GRADS, dtype)
    step = lambda state, g: tx.update(g, state)[::-1]
    state, updates = jax.lax.scan(step, tx.init(grads[0]), grads)
    assert updates.dtype == dtype
    np.testing.assert_array_equal(state.previous, grads[-1].astype(state.previous.dtype))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": 1.0}, r"correct_by_mars needs 0 <= decay < 1, got 1\.0"),
        ({"gamma": -1.0}, "correct_by_mars needs gamma >= 0"),
        ({"max_norm": -1.0}, "correct_by_mars needs max_norm >= 0"),
    ],
)
def test_bad_arguments_are_refused_when_building(arguments, message):
    with pytest.raises(ValueError, match=message):
        gs.correct_by_mars(**arguments)
