"""PSGD Kron against its loop in float64, its fixed points, and its closed form on diagonals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrix_oracles import gaussian, polar, with_spectrum

import gradsmith as gs


def spectral_norm(x):
    v = x @ np.cos(np.arange(1.0, len(x) + 1))
    for _ in range(6):
        v = x @ (v / np.linalg.norm(v))
    return np.linalg.norm(v)


def psgd(grads, b1=0.9, rate=0.1, decay=0.9, damping=1e-9):
    """`Q0.5EQ1.5` for one matrix, written from its paper; noise by expectation."""
    m, n = grads[0].shape
    qs, bounds, mean, sizes = [np.eye(m), np.eye(n)], [0.0, 0.0], 0.0, (n, m)
    for k, g in enumerate(grads):
        if k == 0:
            qs = [q * np.mean(g**4) ** (-1 / 16) for q in qs]
        ps = [q.T @ q for q in qs]
        x = ps[0] @ g @ ps[1]
        noise = damping + np.finfo(float).eps * np.sqrt(np.mean(g**2))
        for side, gram in enumerate((x @ x.T, x.T @ x)):
            gram = gram + noise**2 * np.sum(ps[1 - side] ** 2) * ps[side] @ ps[side]
            norm = spectral_norm(gram) + sizes[side]
            bounds[side] = max(decay * bounds[side] + (1 - decay) * norm, norm)
            q = qs[side]
            q = q - rate / bounds[side] * (gram @ q - sizes[side] * q)
            skew = q.T - q
            skew = skew / spectral_norm(skew) if skew.any() else skew
            slope, bend = np.trace(skew @ q), np.trace(skew @ skew @ q)
            angle = min(-slope / bend, 0.125) if bend < 0 else 0.125
            qs[side] = q + angle * (skew @ q + 0.5 * angle * skew @ skew @ q)
        b = min(k / (k + 1), b1)
        mean = b * mean + (1 - b) * g
        h = qs[0].T @ qs[0] @ mean @ qs[1].T @ qs[1]
        h = h / max(1, np.sqrt(np.mean(h**2)) / 2)
        yield np.clip(h, -10, 10)


def run(grads, **arguments):
    """The updates of the rule in float64, for a stack of the matrices of each step."""
    with jax.enable_x64(True):
        rule = gs.scale_by_psgd(**arguments)
        grads = jnp.asarray(np.stack(grads))
        step = lambda state, g: rule.update(g, state)[::-1]
        state, found = jax.jit(lambda grads: jax.lax.scan(step, rule.init(grads[0]), grads))(grads)
        return jax.tree.map(np.asarray, (found, state))


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5)], ids=str)
def test_it_is_the_loop_of_the_paper(shape):
    grads = np.stack([gaussian(2, *shape, seed=step) for step in range(6)])
    grads[:, 1] *= 1e-3  # each matrix by itself
    found, _ = run(grads)
    expected = np.stack([list(psgd(grads[:, index])) for index in range(2)], 1)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


def test_a_constant_gradient_is_orthogonalized():
    """Golden G13: `sqrt(n)` times the polar factor."""
    g = with_spectrum([3.0, 1.5, 0.7], 3, 3)
    found, state = run([g[None]] * 400)
    np.testing.assert_allclose(found[-1][0], np.sqrt(3) * polar(g), atol=1e-3)
    for q in state.factors:
        np.testing.assert_allclose(q, q.swapaxes(1, 2), atol=1e-6)


def test_on_diagonal_gradients_every_entry_goes_by_itself():
    """The closed form: a factor's entries are multiplied by `1 + rate (n - x^2) / L`."""
    entries = np.abs(gaussian(30, 4)) + 0.5
    signs = np.sign(gaussian(4, seed=1))
    found, _ = run([np.diag(signs * some)[None] for some in entries], b1=0.0)
    q, bound = np.full(4, (np.mean(np.diag(entries[0]) ** 4)) ** (-1 / 16)), 0.0
    for some, out in zip(entries, found, strict=True):
        x2 = (q**4 * some) ** 2
        norm = spectral_norm(np.diag(x2)) + 4
        bound = max(0.9 * bound + 0.1 * norm, norm)
        q = q * (1 + 0.1 / bound * (4 - x2))
        h = q**4 * signs * some
        h = h / max(1, np.sqrt(np.sum(h**2) / 16) / 2)
        np.testing.assert_allclose(out[0], np.diag(h), atol=1e-7)


def test_gradients_of_a_kronecker_covariance_are_whitened():
    """Golden S10: of `A Z B` the updates have covariance one, near enough."""
    a, b = with_spectrum([4.0, 2.0, 1.0, 0.5], 4, 4), with_spectrum([2.0, 1.0, 0.3], 3, 3, seed=1)
    draws = gaussian(1500, 4, 3, seed=5)
    _, state = run([(a @ z @ b)[None] for z in draws], b1=0.0, factor_rate=0.02)
    p, r = (q[0].T @ q[0] for q in state.factors)
    covariance = np.kron(p @ a, r @ b.T)
    values = np.linalg.svd(covariance, compute_uv=False)
    assert values.max() / values.min() < 1.5
    assert 0.8 < np.sqrt(np.mean(values**2)) < 1.2


def test_directions_without_gradient_stay_bounded_and_a_gradient_of_zero_changes_nothing():
    g = np.zeros((1, 4, 4))
    g[0, 0, 0] = 1.0
    _, state = run([g] * 3 + [np.zeros_like(g)] * 3)
    _, before = run([g] * 3)
    for one, other in zip(state.factors, before.factors, strict=True):
        np.testing.assert_array_equal(one, other)
    _, late = run([g] * 300, factor_rate=0.5)  # 1e28 and more, if nothing held them
    assert all(np.abs(q).max() < 1e4 for q in late.factors)
    waits, _ = run([np.zeros_like(g), g])
    at_once, _ = run([g])
    np.testing.assert_array_equal(waits[0], 0)
    np.testing.assert_allclose(waits[1], at_once[0] / 2, rtol=1e-6)


@pytest.mark.parametrize("sides", ["fan_in", "fan_out", "smaller"])
def test_one_side_whitens_alone(sides):
    """For a constant gradient, `sqrt(n)` times its polar factor if its side is the shorter."""
    shape = (5, 3) if sides == "fan_out" else (3, 5)
    g = with_spectrum([3.0, 1.5, 0.7], *shape)
    found, state = run([g[None]] * 400, sides=sides)
    assert (state.factors.fan_in is None) == (sides == "fan_out")
    np.testing.assert_allclose(found[-1][0], np.sqrt(5) * polar(g), atol=1e-3)


def test_where_no_side_has_a_factor_it_is_the_mean():
    grads = np.stack([gaussian(2, 4, 5, seed=step) for step in range(3)])
    found, _ = run(grads, max_side=2)
    np.testing.assert_allclose(found[-1], grads.mean(0), rtol=1e-9)


def test_a_cadence_fits_in_its_steps_only_and_matrices_are_alone():
    grads = np.stack([gaussian(3, 4, 5, seed=step) for step in range(5)])
    _, often = run(grads[:3], refresh_every=2)
    _, seldom = run(np.delete(grads, 1, axis=0)[:2])
    for one, other in zip(often.factors, seldom.factors, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    whole, _ = run(grads)
    reordered, _ = run(grads[:, ::-1])
    np.testing.assert_allclose(whole, reordered[:, ::-1], rtol=1e-9)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64])
def test_every_dtype_is_finite_from_the_first_gradient_on(dtype):
    rule = gs.scale_by_psgd()
    g = jnp.asarray(gaussian(2, 4, 3), jnp.float32).astype(dtype)
    state, update = rule.init(g), jax.jit(rule.update)
    for scale in (0.0, 1.0, 1e3, 1e-3):
        out, state = update(g * jnp.asarray(scale, g.real.dtype).astype(dtype), state)
        assert out.dtype == dtype
        assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((out, state)))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"scale_by_psgd needs 0 <= factor_decay < 1, got 1"):
        gs.scale_by_psgd(factor_decay=1.0)
    with pytest.raises(ValueError, match="refresh_every >= 1"):
        gs.scale_by_psgd(refresh_every=0)
