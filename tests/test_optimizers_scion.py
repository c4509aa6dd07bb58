"""Scion: steepest in each norm, Muon in the hidden matrices, and never out of its ball."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matrix_oracles import gaussian, polar, unchecked_annotations

import gradsmith as gs
from gradsmith.transforms import steepest


def once(tx, tree):
    return tx.update(tree, tx.init(tree))[0]


FORMULAS = {
    "in": lambda g: g / np.sqrt(np.mean(g**2, axis=1, keepdims=True)),
    "out": lambda g: g / np.linalg.norm(g, axis=0) / np.sqrt(g.shape[0]),
    "sign": lambda g: np.sign(g) / g.shape[0],
}
DUALS = {
    "in": lambda g: np.sqrt(g.shape[1]) * np.linalg.norm(g, axis=1).sum(),
    "out": lambda g: np.linalg.norm(g, axis=0).sum() / np.sqrt(g.shape[0]),
    "sign": lambda g: np.abs(g).sum() / g.shape[0],
}


@pytest.mark.parametrize("norm", FORMULAS)
def test_a_step_is_its_formula_and_the_steepest_of_its_norm(norm):
    """Golden G14: its inner product with the gradient is the dual norm of the gradient."""
    g = gaussian(4, 7)
    found = once(gs.steepest_step(norm, 3.0), {"w": jnp.asarray(g, jnp.float32)})["w"]
    np.testing.assert_allclose(found, 3 * FORMULAS[norm](g), rtol=1e-5)
    np.testing.assert_allclose(np.vdot(g, found), 3 * DUALS[norm](g), rtol=1e-5)


@pytest.mark.parametrize("norm", FORMULAS)
def test_fan_in_is_what_the_axes_say(norm):
    g = gaussian(3, 4, 7)
    torch = gs.steepest_step(norm, axes=gs.MatrixAxes(2, 1, 0))
    flat = gs.steepest_step(norm, axes=gs.MatrixAxes((0, 1), 2))
    other = once(torch, {"w": jnp.asarray(g, jnp.float32)})["w"]
    np.testing.assert_allclose(other, [FORMULAS[norm](x.T).T for x in g], rtol=1e-5)
    whole = once(flat, {"w": jnp.asarray(g, jnp.float32)})["w"]
    np.testing.assert_allclose(whole.reshape(12, 7), FORMULAS[norm](g.reshape(12, 7)), rtol=1e-5)


@pytest.mark.parametrize("norm", FORMULAS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64])
def test_zeros_and_extremes_stay_finite_in_every_dtype(norm, dtype):
    largest = 1e4 if dtype == jnp.float16 else 1e30
    for scale in (0.0, 1 / largest, largest):
        found = once(gs.steepest_step(norm), {"w": jnp.full((3, 2), scale, dtype)})["w"]
        assert found.dtype == dtype
        assert jnp.isfinite(found).all()
        assert bool(found.any()) == bool(jnp.asarray(scale, dtype))


def test_the_spectral_norm_is_a_chain_of_what_there_is():
    g = gaussian(4, 9)
    rule = optax.chain(gs.polar_factor("svd"), gs.match_operator_norm(50.0))
    found = once(rule, jnp.asarray(g, jnp.float32)[None])[0]
    np.testing.assert_allclose(found, 50 * np.sqrt(9 / 4) * polar(g), atol=1e-4)
    dual = np.sqrt(9 / 4) * np.linalg.norm(g, "nuc")
    np.testing.assert_allclose(np.vdot(g, found), 50 * dual, rtol=1e-5)


def model(seed):
    shapes = {"up": (4, 6), "embedding": (5, 4), "head": (4, 5), "bias": (6,)}
    return {
        name: jnp.asarray(gaussian(*shape, seed=seed), jnp.float32)
        for name, shape in shapes.items()
    }


def run(tx, steps=3, params=None):
    params = model(9) if params is None else params
    state, update = tx.init(params), jax.jit(tx.update)
    for step in range(steps):
        updates, state = update(model(step), state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("decay", [None, 1.0])
def test_every_role_steps_in_its_norm(decay):
    tx = gs.scion(0.01, radius=3.0, embedding_radius=2.0, head_radius=7.0, method="svd",
                  weight_decay=decay)  # fmt: skip
    found = run(tx)
    steps = {
        "up": lambda d: 3 * np.sqrt(6 / 4) * polar(d),
        "embedding": lambda d: 2 * FORMULAS["in"](d),
        "head": lambda d: 7 * FORMULAS["sign"](d),
    }
    for name, step in steps.items():
        w, d = np.asarray(model(9)[name], np.float64), 0.0
        for seed in range(3):
            d = 0.9 * d + 0.1 * np.asarray(model(seed)[name])
            w = (1 - 0.01 * (decay or 0)) * w - 0.01 * step(d)
        np.testing.assert_allclose(found[name], w, atol=2e-5, err_msg=name)


def test_constrained_scion_is_muon_in_its_hidden_matrices():
    """Golden M13: at the rate times the radius, with a decay of one over the radius."""
    scion = gs.scion(0.01, radius=5.0, weight_decay=1.0)
    muon = gs.muon(0.05, momentum=0.9, momentum_kind="ema", weight_decay=0.2,
                   shape_scale="match_operator_norm")  # fmt: skip
    np.testing.assert_allclose(run(scion)["up"], run(muon)["up"], atol=1e-5)


def test_a_constant_direction_ends_on_the_ball_and_never_leaves_it():
    """Golden M13: `W_t = (1 - rate)^t W_0 - (1 - (1 - rate)^t) radius L`."""
    g = {"up": jnp.asarray(gaussian(4, 4), jnp.float32)}
    start = {"up": jnp.asarray(polar(gaussian(4, 4, seed=1)), jnp.float32)}
    tx = gs.scion(0.1, radius=2.0, method="svd", weight_decay=1.0)
    params, state, update = start, tx.init(start), jax.jit(tx.update)
    for t in range(1, 31):
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
        left = 0.9**t
        expected = left * np.asarray(start["up"]) - (1 - left) * 2 * polar(g["up"])
        np.testing.assert_allclose(params["up"], expected, atol=1e-5)
        assert np.linalg.norm(params["up"], 2) <= 2 + 1e-5


def test_embeddings_and_heads_may_have_others():
    still = run(gs.scion(0.01, embedding=optax.set_to_zero(), head=optax.set_to_zero()))
    for name in ("embedding", "head"):
        np.testing.assert_array_equal(still[name], model(9)[name])


def test_what_is_wrong_is_refused():
    with unchecked_annotations(), pytest.raises(ValueError, match="no norm is called 'row'"):
        gs.steepest_step("row")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="steepest_step needs radius >= 0"):
        gs.steepest_step("in", -1.0)
    with pytest.raises(ValueError, match="nothing says which matrices there are"):
        gs.scion(0.1).init({"head": jnp.ones((2, 3, 4))})


def test_leaves_of_one_shape_are_traced_once(monkeypatch):
    traced = []
    wide = steepest.wide_dtype
    monkeypatch.setattr(steepest, "wide_dtype", lambda dtype: traced.append(dtype) or wide(dtype))
    tx = gs.steepest_step("in")
    tree = {f"table_{n}": jnp.ones((3, 5)) for n in range(4)}
    jax.make_jaxpr(tx.update)(tree, tx.init(tree))
    assert len(traced) == 1
