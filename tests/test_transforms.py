import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs


def gradients(steps=6, shape=(3, 4), dtype=np.float32):
    return np.random.default_rng(0).standard_normal((steps, *shape)).astype(dtype)


def directions(tx, grads):
    state = tx.init(grads[0])
    for g in grads:
        update, state = tx.update(jnp.asarray(g), state)
        yield np.asarray(update, np.float64)


@pytest.mark.parametrize(
    ("kind", "direction"),
    [
        ("heavy_ball", lambda m, g, t: m),
        ("heavy_ball_nesterov", lambda m, g, t: 0.9 * m + g),
        ("ema", lambda m, g, t: 0.1 * m),
        ("ema_nesterov", lambda m, g, t: 0.9 * 0.1 * m + 0.1 * g),
        (
            "ema_nesterov_debiased",
            lambda m, g, t: 0.09 * m / (1 - 0.9 ** (t + 1)) + 0.1 * g / (1 - 0.9**t),
        ),
    ],
)
def test_momentum_is_its_formula(kind, direction):
    """With `m` the heavy ball; a moving average is a tenth of it at decay 0.9."""
    grads, heavy = gradients(), 0.0
    for t, (g, update) in enumerate(
        zip(grads, directions(gs.momentum(0.9, kind), grads), strict=True), 1
    ):
        heavy = 0.9 * heavy + g.astype(np.float64)
        np.testing.assert_allclose(update, direction(heavy, g, t), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        ("heavy_ball", optax.trace(0.9)),
        ("heavy_ball_nesterov", optax.trace(0.9, nesterov=True)),
        ("ema", optax.ema(0.9, debias=False)),
    ],
)
def test_momentum_is_optaxs_where_optax_has_it(kind, theirs):
    grads = gradients()
    ours = directions(gs.momentum(0.9, kind), grads)
    for update, expected in zip(ours, directions(theirs, grads), strict=True):
        np.testing.assert_allclose(update, expected, rtol=1e-5, atol=1e-7)


def test_nesterov_of_either_family_points_the_same_way():
    """Golden M3: at a constant decay they differ by the factor 1 - decay."""
    grads = gradients()
    ball = directions(gs.momentum(0.9, "heavy_ball_nesterov"), grads)
    ema = directions(gs.momentum(0.9, "ema_nesterov"), grads)
    for one, other in zip(ball, ema, strict=True):
        np.testing.assert_allclose(0.1 * one, other, rtol=1e-5, atol=1e-7)


def test_momentum_of_bfloat16_does_not_stall():
    """One hundred gradients of 1/256: a bfloat16 average would stop at the first rounding."""
    grads = np.full((100, 2, 2), 1 / 256)
    tx = gs.momentum(0.999, "heavy_ball")
    state = tx.init(jnp.zeros((2, 2), jnp.bfloat16))
    for g in grads:
        update, state = tx.update(jnp.asarray(g, jnp.bfloat16), state)
    assert update.dtype == jnp.bfloat16
    expected = (1 - 0.999**100) / (1 - 0.999) / 256
    np.testing.assert_allclose(state.momentum, expected, rtol=1e-5)


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("arguments", [(), (0.8, 0.95, 1e-3, 0.1)], ids=["defaults", "others"])
def test_adam_is_optaxs_in_float32(arguments):
    grads = gradients()
    ours = directions(gs.scale_by_adam(*arguments), grads)
    theirs = directions(optax.scale_by_adam(*arguments), grads)
    for update, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(update, expected, rtol=1e-4, atol=1e-5)


def test_adam_without_eps_keeps_a_zero_gradient_at_zero():
    tx = gs.scale_by_adam(eps=jnp.asarray(1e-8, jnp.float16))  # which is zero
    grads = jnp.asarray([0.0, -3.0])
    np.testing.assert_allclose(tx.update(grads, tx.init(grads))[0], [0, -1], rtol=1e-5)


def test_momentum_may_be_kept_in_bfloat16_and_is_computed_in_float32():
    grads = gradients()
    wide, narrow = gs.momentum(0.9), gs.momentum(0.9, dtype=jnp.bfloat16)
    state = narrow.init(jnp.asarray(grads[0]))
    for g, expected in zip(grads, directions(wide, grads), strict=True):
        update, state = narrow.update(jnp.asarray(g), state)
        assert state.momentum.dtype == jnp.bfloat16
        assert update.dtype == jnp.float32
        np.testing.assert_allclose(update, expected, atol=2**-7)
    first, _ = narrow.update(jnp.asarray(grads[0]), narrow.init(jnp.asarray(grads[0])))
    np.testing.assert_array_equal(first, next(directions(wide, grads[:1])).astype(np.float32))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_adam_of_a_zero_gradient_is_zero_in_every_dtype(dtype):
    tx = gs.scale_by_adam(eps=1e-10)
    grads = jnp.asarray([0.0, 1e-4, 300.0], dtype)
    update, state = tx.update(grads, tx.init(grads))
    assert update.dtype == dtype
    np.testing.assert_allclose(np.asarray(update, np.float32), [0, 1, 1], atol=2e-6)
    assert state.nu.dtype == jnp.float32


def test_adam_of_complex_parameters_uses_the_modulus():
    tx = gs.scale_by_adam()
    grads = jnp.asarray([3 + 4j])
    update, _ = tx.update(grads, tx.init(grads))
    np.testing.assert_allclose(update, [0.6 + 0.8j], rtol=1e-5)


@pytest.mark.parametrize(
    ("rule", "scale"),
    [
        (gs.scale_by_aspect_ratio(), lambda m, n: max(1, n / m) ** 0.5),
        (gs.match_rms(0.3), lambda m, n: 0.3 * max(m, n) ** 0.5),
        (gs.match_operator_norm(), lambda m, n: (n / m) ** 0.5),
    ],
    ids=["aspect_ratio", "match_rms", "match_operator_norm"],
)
@pytest.mark.parametrize("shape", [(2, 8), (8, 2), (3, 3)], ids=str)
def test_a_shape_scale_is_its_formula_of_fan_in_and_fan_out(rule, scale, shape):
    stack = jnp.ones((2, *shape))
    updates, _ = rule.update(stack, rule.init(stack))
    np.testing.assert_allclose(updates, scale(*shape), rtol=1e-6)


@pytest.mark.parametrize("layout", [gs.MatrixAxes(0, 1), gs.MatrixAxes(1, 0)], ids=str)
def test_a_shape_scale_sees_the_declared_axes_and_not_the_order_of_the_array(layout):
    leaf = jnp.ones((2, 8))
    tx = gs.per_stack(gs.scale_by_aspect_ratio(), axes=layout)
    updates, _ = tx.update(leaf, tx.init(leaf))
    np.testing.assert_allclose(updates, 2.0 if layout.in_axis == 0 else 1.0)


def test_weight_decay_adds_its_part_of_the_weights():
    tx = gs.decay_weights(0.1)
    updates, _ = tx.update({"w": jnp.ones(2)}, tx.init(None), {"w": jnp.asarray([5.0, -5.0])})
    np.testing.assert_allclose(updates["w"], [1.5, 0.5])


@pytest.mark.parametrize("rate", [0.1, np.float32(0.1), lambda count: jnp.float32(0.1)])
def test_a_learning_rate_keeps_the_dtype_of_every_leaf(rate):
    tx = gs.scale_by_learning_rate(rate)
    updates = {"a": jnp.ones(2, jnp.bfloat16), "b": jnp.ones(2), "c": jnp.ones(2, jnp.complex64)}
    out, state = tx.update(updates, tx.init(updates))
    for name in updates:
        assert out[name].dtype == updates[name].dtype
        np.testing.assert_allclose(out[name].astype(jnp.complex64), -0.1, rtol=1e-2)
    theirs = optax.scale_by_learning_rate(rate if callable(rate) else float(rate))
    assert jax.tree.structure(state) == jax.tree.structure(theirs.init(updates))


def test_weight_decay_keeps_the_dtype_of_the_updates():
    tx = gs.decay_weights(0.1)
    grads = jnp.ones(2, jnp.bfloat16)
    updates, _ = tx.update(grads, tx.init(None), jnp.ones(2, jnp.float32))
    assert updates.dtype == jnp.bfloat16


def test_no_decay_needs_no_params():
    tx = gs.decay_weights(0.0)
    assert tx.update(1.0, tx.init(1.0))[0] == 1.0
    with pytest.raises(ValueError, match="weight decay of 1e-06 needs the parameters"):
        gs.decay_weights(1e-6).update(1.0, optax.EmptyState())


def test_transforms_run_under_scan():
    tx = optax.chain(gs.momentum(0.9, "ema_nesterov_debiased"), gs.scale_by_adam())
    grads = jnp.asarray(gradients())

    def step(state, g):
        updates, state = tx.update(g, state)
        return state, updates

    _, updates = jax.lax.scan(step, tx.init(grads[0]), grads)
    assert np.isfinite(updates).all()
