"""Muon against its published forms, written here in float64 NumPy, one matrix at a time."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs

STEPS = 10
KELLER = (3.4445, -4.7750, 2.0315)
YOU_LIKE_DION = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
# (fan_in, fan_out): wide, tall and square, so that a swap of the two shows in scale and in axis.
SHAPES = {"wide": (5, 9), "tall": (9, 4), "square": (6, 6)}
# Newton-Schulz multiplies a float32 rounding error of 6e-8 by its slope at zero, about 500; over
# ten steps of rate 0.1 the parameters gather at most 10 x 0.1 x 3e-5.
ATOL = 3e-5


def gradients(step):
    keys = jax.random.split(jax.random.key(step), len(SHAPES))
    pairs = zip(keys, SHAPES.items(), strict=True)
    return {name: jax.random.normal(key, shape) for key, (name, shape) in pairs}


def newton_schulz(x, triples=(KELLER,) * 5, slack=1.0, eps=0.0):
    x = x / (slack * np.linalg.norm(x) + eps)
    for a, b, c in triples:
        gram = x @ x.T
        x = a * x + b * gram @ x + c * gram @ gram @ x
    return x


def loop(step_of_one_matrix, rate=0.1, decay=0.0):
    """Train every matrix alone for ten steps; `step(G, memory, t)` returns a direction."""
    finals = {}
    for name, shape in SHAPES.items():
        weights, memory = np.ones(shape), np.zeros(shape)
        for t in range(1, STEPS + 1):
            g = np.asarray(gradients(t)[name], np.float64)
            direction, memory = step_of_one_matrix(g, memory, t)
            weights = weights - rate * (direction + decay * weights)
        finals[name] = weights
    return finals


def train(optimizer, with_params=False):
    params = {name: jnp.ones(shape) for name, shape in SHAPES.items()}
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for t in range(1, STEPS + 1):
        args = (params,) if with_params else ()
        updates, state = update(gradients(t), state, *args)
        params = optax.apply_updates(params, updates)
    return params


def assert_same(params, expected):
    for name in SHAPES:
        np.testing.assert_allclose(params[name], expected[name], atol=ATOL, err_msg=name)


def aspect_ratio(x):
    fan_in, fan_out = x.shape
    return max(1, fan_out / fan_in) ** 0.5 * x


def test_keller_jordans_figure():
    """B <- mu B + G; O <- NewtonSchulz5(B); theta <- theta - lr O."""

    def step(g, b, t):
        b = 0.95 * b + g
        return newton_schulz(b), b

    muon = gs.muon(0.1, momentum_kind="heavy_ball", shape_scale="none")
    assert_same(train(muon), loop(step))


def test_keller_jordans_code():
    """Nesterov's look-ahead on a moving average, and the aspect ratio of (out, in) weights."""

    def step(g, m, t):
        m = m + (g - m) * (1 - 0.95)  # torch.lerp_
        u = g + (m - g) * 0.95
        return aspect_ratio(newton_schulz(u)), m

    assert_same(train(gs.muon(0.1)), loop(step))


def test_moonlight():
    def step(g, m, t):
        m = 0.95 * m + g
        o = newton_schulz(g + 0.95 * m)
        return 0.2 * max(o.shape) ** 0.5 * o, m

    muon = gs.muon(
        0.1, momentum_kind="heavy_ball_nesterov", shape_scale="match_rms", weight_decay=0.1
    )
    assert_same(train(muon, with_params=True), loop(step, decay=0.1))


@pytest.mark.parametrize("scale", ["aspect_ratio", "match_rms"])
def test_torch(scale):
    """torch.optim.Muon: `adjust_lr_fn` "original" or "match_rms_adamw", norm clamped at 1e-7."""

    def step(g, m, t):
        m = 0.95 * m + 0.05 * g
        o = newton_schulz(0.05 * g + 0.95 * m)
        return (aspect_ratio(o) if scale == "aspect_ratio" else 0.2 * max(o.shape) ** 0.5 * o), m

    muon = gs.muon(0.1, shape_scale=scale, weight_decay=0.1)
    assert_same(train(muon, with_params=True), loop(step, decay=0.1))


def test_dion():
    """microsoft/dion's Muon: no look-ahead, Polar Express, sqrt(fan_out / fan_in)."""

    def step(g, m, t):
        m = 0.95 * m + g
        o = newton_schulz(m, YOU_LIKE_DION, slack=1.02)
        return (o.shape[1] / o.shape[0]) ** 0.5 * o, m

    muon = gs.muon(
        0.1,
        momentum_kind="heavy_ball",
        coefficients="polar_express_1.02",
        shape_scale="match_operator_norm",
        weight_decay=0.01,
    )
    assert_same(train(muon, with_params=True), loop(step, decay=0.01))


def test_the_optimization_track():
    """modded-nanogpt's baseline: twelve steps of (2, -1.5, 0.5)."""

    def step(g, m, t):
        m = 0.95 * m + 0.05 * g
        u = 0.05 * g + 0.95 * m
        return aspect_ratio(newton_schulz(u, ((2, -1.5, 0.5),) * 12)), m

    assert_same(train(gs.muon(0.1, coefficients="double")), loop(step))


@pytest.mark.parametrize("nesterov", [True, False])
def test_optax(nesterov):
    kind = "ema_nesterov_debiased" if nesterov else "ema"  # a polar factor forgets its scale
    ours = gs.muon(0.1, momentum_kind=kind, eps=1e-8, axes=gs.MatrixAxes(0, 1))
    theirs = optax.contrib.muon(0.1, nesterov=nesterov, eps=1e-8, weight_decay=0.0)
    with jax.numpy_dtype_promotion("standard"):
        expected = train(theirs, with_params=True)
    assert_same(train(ours), expected)


def test_optax_with_the_axes_of_equinox():
    axes = gs.MatrixAxes(in_axis=1, out_axis=0)
    numbers = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=0)
    theirs = optax.contrib.muon(
        0.1, muon_weight_dimension_numbers=dict.fromkeys(SHAPES, numbers), weight_decay=0.0
    )
    with jax.numpy_dtype_promotion("standard"):
        expected = train(theirs, with_params=True)
    assert_same(train(gs.muon(0.1, momentum_kind="ema_nesterov_debiased", axes=axes)), expected)


def test_exact_orthogonalization_moves_by_the_polar_factor():
    """Golden M1 and M2: the spectral norm, or the RMS, of the first update is the rate."""
    g = gradients(0)
    for scale, measure in (
        ("none", lambda u: np.linalg.norm(u, 2)),
        ("match_rms", lambda u: np.sqrt(np.mean(np.square(u))) / 0.2),
    ):
        tx = gs.muon(0.5, momentum=0.0, method="svd", shape_scale=scale)
        updates, _ = tx.update(g, tx.init(g))
        for name, update in updates.items():
            np.testing.assert_allclose(measure(update), 0.5, rtol=1e-5)
            u, _, vt = np.linalg.svd(np.asarray(g[name], np.float64), full_matrices=False)
            assert np.vdot(update, u @ vt) < 0


def test_other_leaves_get_adamw_at_the_documented_rate():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.full(3, 2.0), "head": jnp.ones((2, 4))}
    grads = jax.tree.map(jnp.ones_like, params)
    for scale, factor in (("aspect_ratio", 0.3), ("match_rms", 1.0)):
        for rate in (0.1, lambda count: 0.1):
            tx = gs.muon(rate, shape_scale=scale, weight_decay=0.5)
            updates, _ = tx.update(grads, tx.init(params), params)
            np.testing.assert_allclose(updates["head"], -factor * 0.1 * (1 + 0.5), rtol=1e-5)
            np.testing.assert_allclose(updates["bias"], -factor * 0.1, rtol=1e-5)
    tx = gs.muon(0.1, adam_learning_rate=0.01)
    updates, _ = tx.update(grads, tx.init(params))
    np.testing.assert_allclose(updates["head"], -0.01, rtol=1e-5)


def test_params_are_needed_only_for_decay_and_the_error_names_it():
    grads = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    tx = gs.muon(0.1)
    tx.update(grads, tx.init(grads))
    tx = gs.muon(0.1, weight_decay=0.1)
    with pytest.raises(ValueError, match=r"weight decay of 0\.1 needs the parameters: call update"):
        tx.update(grads, tx.init(grads))


def test_rates_momentum_and_decay_may_be_injected_and_set_without_recompiling():
    with jax.numpy_dtype_promotion("standard"):
        inject = optax.inject_hyperparams(gs.muon)
        tx = inject(learning_rate=0.1, momentum=0.9, weight_decay=0.01, eps=0.0)
        params = gradients(0)
        state = tx.init(params)
        update = jax.jit(tx.update)
        for rate in (0.1, 0.2):
            state.hyperparams["learning_rate"] = jnp.asarray(rate)
            updates, state = update(gradients(1), state, params)
        assert update._cache_size() == 1
        plain = gs.muon(0.2, momentum=0.9, weight_decay=0.01)
        other = plain.init(params)
        for _ in range(2):
            expected, other = plain.update(gradients(1), other, params)
    assert_same(updates, expected)


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (
            gs.muon,
            {"shape_scale": "spectral"},
            "no shape_scale is called 'spectral'; there are aspect_ratio",
        ),
        (gs.momentum, {"kind": "nesterov"}, "no momentum is called 'nesterov'; there are heavy"),
        (gs.polar_factor, {"method": "qr"}, "no method is called 'qr'"),
        (gs.muon, {"momentum": 1.0}, r"momentum needs 0 <= decay < 1, got 1\.0"),
        (gs.muon, {"weight_decay": -0.1}, r"decay_weights needs rate >= 0, got -0\.1"),
        (gs.muon, {"coefficients": "quintic"}, "no schedule is called 'quintic'; there are keller"),
        (gs.muon, {"coefficients": "you", "steps": 4}, "'you' is made for 5 steps, got steps=4"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_bad_arguments_are_refused_when_building(build, arguments, message):
    rate = {"learning_rate": 0.1} if build is gs.muon else {}
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(build)(**rate, **arguments)  # below the run-time type check of the tests


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_every_dtype_moves_and_a_zero_gradient_moves_nothing(dtype):
    params = {"kernel": jnp.ones((4, 3), dtype), "bias": jnp.ones(3, dtype)}
    tx = gs.muon(0.1)
    for scale in (0.0, 1e-4, 1.0):
        grads = {name: scale * leaf for name, leaf in params.items()}
        updates, _ = tx.update(grads, tx.init(params))
        for update in jax.tree.leaves(updates):
            assert update.dtype == dtype
            assert np.isfinite(update).all()
            assert (np.abs(np.asarray(update, np.float32)).max() > 1e-3) == (scale > 0)
