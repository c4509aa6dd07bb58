"""MuonEq, AdaMuon, NAMO and the optimizers on spheres: float64 loops, golden numbers, limits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matrix_oracles import gaussian, polar

import gradsmith as gs

SHAPES = {"wide": (4, 9), "narrow": (9, 4), "square": (5, 5)}
STEPS = 4


def nesterov(grads, beta=0.95):
    m = 0.0
    for g in grads:
        m = beta * m + (1 - beta) * g
        yield beta * m + (1 - beta) * g


def muoneq(grads, w):
    for u in nesterov(grads):
        out = polar(u / np.linalg.norm(u, axis=0))
        step = -0.1 * np.sqrt(max(1, w.shape[1] / w.shape[0])) * out
        yield step
        w = w + step


def adamuon(grads, w):
    v = 0.0
    for u in nesterov(grads):
        out = polar(np.sign(u))
        v = 0.95 * v + 0.05 * out**2
        out = out / (np.sqrt(v) + 1e-8)
        yield -0.1 * 0.2 * np.sqrt(w.size) * out / np.linalg.norm(out)


def namo(grads, w):
    v = 0.0
    for k, (g, u) in enumerate(zip(grads, nesterov(grads), strict=True), 1):
        v = 0.99 * v + 0.01 * np.linalg.norm(g) ** 2
        a = np.sqrt(1 - 0.99**k) / (1 - 0.95**k) * np.linalg.norm(u) / (np.sqrt(v) + 1e-8)
        yield -0.1 * a * 0.2 * np.sqrt(max(w.shape)) * polar(u)


def on_sphere(directions, w):
    radius = np.linalg.norm(w)
    for u in directions:
        new = w - 0.1 * radius * u / np.linalg.norm(u)
        new *= radius / np.linalg.norm(new)
        yield new - w
        w = new


def muonh(grads, w):
    return on_sphere(map(polar, nesterov(grads)), w)


def adam(grads):
    m = v = 0.0
    for k, g in enumerate(grads, 1):
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
        yield m / (1 - 0.9**k) / (np.sqrt(v / (1 - 0.95**k)) + 1e-8)


def adamh(grads, w):
    return on_sphere(adam(grads), w)


LOOPS = {
    "muoneq": (lambda rate: gs.muoneq(rate, method="svd"), muoneq),
    "adamuon": (lambda rate: gs.adamuon(rate, method="svd"), adamuon),
    "namo": (lambda rate: gs.namo(rate, method="svd"), namo),
    "muonh": (lambda rate: gs.muonh(rate, method="svd"), muonh),
    "adamh": (gs.adamh, adamh),
}


@pytest.mark.parametrize("name", LOOPS)
def test_an_optimizer_is_the_loop_of_its_paper(name):
    make, loop = LOOPS[name]
    with jax.enable_x64(True):
        params = {key: jnp.asarray(gaussian(*shape, seed=9)) for key, shape in SHAPES.items()}
        start, grads = params, []
        tx, found = make(0.1), []
        state, update = tx.init(params), jax.jit(tx.update)
        for step in range(STEPS):
            grads.append({key: gaussian(*shape, seed=step) for key, shape in SHAPES.items()})
            updates, state = update(jax.tree.map(jnp.asarray, grads[-1]), state, params)
            params = optax.apply_updates(params, updates)
            found.append(updates)
        for key in SHAPES:
            expected = list(loop([g[key] for g in grads], np.asarray(start[key])))
            np.testing.assert_allclose([u[key] for u in found], expected, rtol=1e-7, atol=1e-9)


def test_muoneq_is_muon_where_neurons_are_orthogonal():
    """Golden G9: their scales drop out of both."""
    grads = {"kernel": jnp.asarray(polar(gaussian(9, 4)) * [5, 1, 0.2, 3], jnp.float32)}
    eq, muon = (f(0.1, method="svd") for f in (gs.muoneq, gs.muon))
    one, other = (tx.update(grads, tx.init(grads))[0]["kernel"] for tx in (eq, muon))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_adamuon_starts_with_a_sign():
    """Golden G10: the entries of its first update are 0.2."""
    grads = {"kernel": jnp.asarray(gaussian(9, 4), jnp.float32)}
    tx = gs.adamuon(1.0)
    updates, _ = tx.update(grads, tx.init(grads))
    np.testing.assert_allclose(np.abs(updates["kernel"]), 0.2, rtol=1e-5)


def scaled_by_namo(grads, direction=None, params=None, **arguments):
    rule = gs.scale_by_namo(direction or gs.polar_factor("svd"), **arguments)
    stack = lambda x: None if x is None else jnp.asarray(x, jnp.float32)[None]
    state, update = rule.init(stack(grads[0])), jax.jit(rule.update)
    out = None
    for g in grads:
        out, state = update(stack(g), state, stack(params))
    return np.asarray(out)[0]


def test_namo_of_a_constant_gradient_is_muon():
    """Golden G11: the factor is 1, with Nesterov's look-ahead 1.95 in the first step."""
    g = gaussian(9, 4)
    plain = scaled_by_namo([g] * 5, momentum_kind="ema")
    np.testing.assert_allclose(plain, polar(g), atol=1e-5)
    np.testing.assert_allclose(scaled_by_namo([g]), 1.95 * polar(g), atol=1e-5)


def test_namo_is_short_where_gradients_cancel():
    g = gaussian(9, 4)
    signs = [1, -1] * 10
    assert np.linalg.norm(scaled_by_namo([s * g for s in signs])) < 0.2 * np.linalg.norm(polar(g))


def test_a_decay_inside_namo_is_scaled_as_in_the_paper():
    g, w = gaussian(9, 4), gaussian(9, 4, seed=1)
    direction = optax.chain(gs.polar_factor("svd"), gs.decay_weights(0.5))
    found = scaled_by_namo([g], direction, w)
    np.testing.assert_allclose(found, 1.95 * (polar(g) + 0.5 * w), atol=1e-5)


@pytest.mark.parametrize("name", ["muonh", "adamh"])
def test_the_lengths_of_the_matrices_stay_and_only_others_decay(name):
    params = {"up": jnp.ones((4, 6)), "embedding": jnp.ones((5, 4))}
    grads = {key: jnp.asarray(gaussian(*p.shape), jnp.float32) for key, p in params.items()}
    plain, decaying = getattr(gs, name)(0.5), getattr(gs, name)(0.5, weight_decay=0.1)
    one, other = (tx.update(grads, tx.init(params), params)[0] for tx in (plain, decaying))
    np.testing.assert_allclose(jnp.linalg.norm((params["up"] + one["up"]).ravel()), 24**0.5, 1e-6)
    np.testing.assert_array_equal(one["up"], other["up"])
    assert np.abs(one["embedding"] - other["embedding"]).max() > 1e-3


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"scale_by_entry_rms needs 0 <= decay < 1, got 1"):
        gs.scale_by_entry_rms(1.0)
    with pytest.raises(ValueError, match=r"scale_by_namo needs 0 <= b2 < 1, got 2"):
        gs.scale_by_namo(optax.identity(), b2=2.0)
    tx, params = gs.muonh(0.1), {"w": jnp.ones((2, 3))}
    state = tx.init(params)
    with pytest.raises(ValueError, match=r"needs the parameters: call update\(grads"):
        tx.update(params, state)
