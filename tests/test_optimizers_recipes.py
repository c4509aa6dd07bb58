"""The recipes besides Muon: wired as they say, trainable, and Muon or Adam where they must be."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matrix_oracles import gaussian, polar

import gradsmith as gs

PARAMS = {
    "wide": jnp.asarray(0.3 * gaussian(4, 9), jnp.float32),
    "narrow": jnp.asarray(0.3 * gaussian(9, 4, seed=1), jnp.float32),
    "bias": jnp.ones(4),
}
RECIPES = {
    "normuon": lambda rate, **more: gs.normuon(rate, **more),
    "dion2": lambda rate, **more: gs.dion2(rate, fraction=0.5, **more),
    "soap": lambda rate, **more: gs.soap(rate, refresh_every=2, **more),
    "kl_soap": lambda rate, **more: gs.soap(rate, factors="kl", refresh_every=2, **more),
    "soap_muon": lambda rate, **more: gs.soap_muon(rate, refresh_every=2, **more),
    "forge": lambda rate, **more: gs.forge(rate, refresh_every=2, **more),
    "shampoo": lambda rate, **more: gs.shampoo(rate, refresh_every=2, max_block=5, **more),
    "asgo": lambda rate, **more: gs.asgo(rate, refresh_every=2, **more),
    "mars_muon": lambda rate, **more: gs.mars_muon(rate, **more),
    "mars_adamw": lambda rate, **more: gs.mars_adamw(rate, **more),
    "ademamix": lambda rate, **more: gs.ademamix(rate, **more),
}


def gradients(seed):
    return {
        name: jnp.asarray(gaussian(*p.shape, seed=seed), jnp.float32) for name, p in PARAMS.items()
    }


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_descends_a_quadratic_and_compiles_once(name):
    """Golden I2, shortened: `|x W V + b|^2` falls to a fifth within 60 steps of a decaying rate."""
    x = gaussian(16, 4, seed=5)

    def loss(p):
        return jnp.mean(
            (jnp.asarray(x, jnp.float32) @ p["wide"] @ p["narrow"] + p["bias"][None]) ** 2
        )

    optimizer = RECIPES[name](optax.linear_schedule(0.1, 0.0, 60))

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(60):
        params, state = step(params, state)
    assert loss(params) < 0.2 * loss(PARAMS)
    assert step._cache_size() == 1


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "kl_soap"])
def test_a_recipe_decays_its_matrices_by_its_rate_and_everything_where_the_mask_says(name):
    g = gradients(0)
    plain = RECIPES[name](0.1)
    one, _ = jax.jit(plain.update)(g, plain.init(PARAMS))
    rate = 0.1 * (0.3 if name in ("normuon", "dion2", "soap_muon") else 1.0)
    for mask, rate_of_bias in ((None, 0.0), (lambda params: True, rate)):
        decaying = RECIPES[name](0.1, weight_decay=0.5, weight_decay_mask=mask)
        other, _ = jax.jit(decaying.update)(g, decaying.init(PARAMS), PARAMS)
        for leaf, own_rate in (("wide", 0.1), ("narrow", 0.1), ("bias", rate_of_bias)):
            part = -own_rate * 0.5 * PARAMS[leaf]
            np.testing.assert_allclose(other[leaf] - one[leaf], part, atol=1e-6)


def test_kl_soap_and_soap_differ_in_the_matrices_alone():
    g = [gradients(seed) for seed in range(4)]
    last = {}
    for name in ("soap", "kl_soap"):
        tx = RECIPES[name](1.0)
        state, update = tx.init(PARAMS), jax.jit(tx.update)
        for each in g:
            last[name], state = update(each, state)
    assert np.abs(last["soap"]["wide"] - last["kl_soap"]["wide"]).max() > 1e-3
    np.testing.assert_array_equal(last["soap"]["bias"], last["kl_soap"]["bias"])


def test_shampoo_steps_as_far_as_adam_block_by_block():
    g = gradients(0)
    tx = gs.shampoo(1.0, max_block=5)
    updates, _ = tx.update(g, tx.init(PARAMS))
    # Adam's first step is a sign: a block of 4 x 5 has norm sqrt(20), and of 4 x 4 norm 4.
    np.testing.assert_allclose(np.linalg.norm(updates["wide"][:, :5]), 20**0.5, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(updates["wide"][:, 5:]), 4.0, rtol=1e-4)


def test_asgo_starts_at_the_polar_factor_over_its_bias():
    g = gradients(0)
    tx = gs.asgo(1.0, b1=0.9, b2=0.99)
    updates, _ = tx.update(g, tx.init(PARAMS))
    for name in ("wide", "narrow"):  # 0.1 G (0.01 G G^T)^-1/2, and a ridge of 1e-6
        np.testing.assert_allclose(updates[name], -polar(g[name]), atol=1e-3)


def test_mars_muon_is_muon_where_the_gradient_does_not_change():
    """But for the first step's change from zero, which a polar factor does not see alone."""
    g = gradients(0)
    mars = gs.mars_muon(0.1, gamma=0.0)
    muon = gs.muon(0.1, momentum_kind="ema", shape_scale="match_rms")
    one, other = mars.init(PARAMS), muon.init(PARAMS)
    for _ in range(2):
        ours, one = mars.update(g, one)
        theirs, other = muon.update(g, other)
        for name in PARAMS:
            np.testing.assert_allclose(ours[name], theirs[name], atol=1e-5)


def test_ademamix_steps_once_by_its_closed_form():
    """Golden A1, with the sign of descent."""
    g = gradients(0)
    tx = gs.ademamix(0.1, b3=0.75, alpha=8.0)
    updates, _ = tx.update(g, tx.init(PARAMS))
    np.testing.assert_allclose(updates["wide"], -0.3 * np.sign(g["wide"]), rtol=1e-4)


def test_mars_adamw_is_adam_of_the_corrected_and_clipped_gradient():
    tx = gs.mars_adamw(0.1)
    by_hand = optax.chain(gs.correct_by_mars(), gs.scale_by_adam(0.95, 0.99, 1e-8))
    one, other = tx.init(PARAMS), by_hand.init(PARAMS)
    for seed in range(3):
        ours, one = tx.update(gradients(seed), one)
        theirs, other = by_hand.update(gradients(seed), other)
        np.testing.assert_allclose(ours["wide"], -0.1 * theirs["wide"], rtol=1e-5)


def test_the_bases_of_a_stacked_leaf_are_per_layer():
    stacked = {"blocks": jnp.ones((3, 5, 5))}
    axes = {"blocks": gs.MatrixAxes(-2, -1, 0)}
    tx, alone = gs.soap(0.1, axes=axes, refresh_every=1), gs.soap(0.1, refresh_every=1)
    state, single = tx.init(stacked), alone.init({"w": jnp.ones((5, 5))})
    step = jax.jit(lambda tx, g, state: tx.update(g, state), static_argnums=0)
    for seed in range(3):
        g = jnp.asarray(gaussian(3, 5, 5, seed=seed), jnp.float32)
        updates, state = step(tx, {"blocks": g}, state)
        update, single = step(alone, {"w": g[1]}, single)
    np.testing.assert_allclose(updates["blocks"][1], update["w"], atol=1e-4)


def test_normuon_on_layers_that_do_not_widen_is_muon_with_an_exact_polar_factor():
    params = {"narrow": jnp.ones((9, 4)), "square": jnp.ones((5, 5))}
    muon, normuon = gs.muon(0.1, method="svd"), gs.normuon(0.1, method="svd")
    states = muon.init(params), normuon.init(params)
    for seed in range(3):
        grads = {
            name: jnp.asarray(gaussian(*p.shape, seed=seed), jnp.float32)
            for name, p in params.items()
        }
        one, state = muon.update(grads, states[0])
        other, norstate = normuon.update(grads, states[1])
        states = state, norstate
        for name in params:
            np.testing.assert_allclose(one[name], other[name], atol=1e-5)
