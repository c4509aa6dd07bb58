"""Momentum in SOAP's basis, against a float64 loop and the numbers of the records."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matrix_oracles import polar, unchecked_annotations

import gradsmith as gs

EXACT = gs.polar_factor("svd")


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def wave(t, m=3, n=4):
    """The reproducible gradients of the golden numbers."""
    i, j = np.mgrid[0:m, 0:n]
    return np.cos(1 + 1.3 * i + 0.7 * j * j + 0.6 * i * j + 0.9 * t * (i + 1))


def updates_of(tx, grads):
    state = tx.init(jnp.asarray(grads[0][None]))
    update, out = jax.jit(tx.update), []
    for g in grads:
        u, state = update(jnp.asarray(g[None]), state)
        out.append(np.asarray(u[0]))
    return out, state


def size(x):
    return np.linalg.norm(x @ x.T) ** 0.5


def loop(grads, mus, every=1, b2=0.9, bounds=None):
    """One matrix, from the description of the records: what goes into the orthogonalization."""
    mean, square, bases, out = 0.0, 0.0, None, []
    left, right = 0.0, 0.0
    for t, (g, mu) in enumerate(zip(grads, mus, strict=True)):
        mean = mean + (1 - mu) * (g - mean)
        u = (1 - mu) * g + mu * mean
        direction = u
        if bases is not None:
            q, p = bases
            seen = q.T @ u @ p
            square = b2 * square + (1 - b2) * seen**2
            direction = q @ (seen / np.maximum(np.sqrt(square), 1e-8)) @ p.T
        if bases is not None and bounds is not None:
            s = direction * size(u) / size(direction)
            cos = lambda x, y: np.sum(x * y) / np.linalg.norm(x) / np.linalg.norm(y)
            gate = np.clip((cos(s, u) - 0.2) / 0.8, 0, 1)
            gate *= np.clip(cos(s, g) / max(cos(u, g), 1e-8), 0, 1)
            direction = u + np.clip(gate, *bounds) * (s - u)
        out.append(direction)
        left = b2 * left + (1 - b2) * g @ g.T
        right = b2 * right + (1 - b2) * g.T @ g
        if bases is None:
            bases = [np.linalg.eigh(x)[1][:, ::-1] for x in (left, right)]
            square = np.zeros_like(g)
        elif t % every == 0:
            for side, factor in enumerate((left, right)):
                q = bases[side]
                order = np.argsort(-np.diag(q.T @ factor @ q))
                square = np.take(square, order, side)
                bases[side] = np.linalg.qr(factor @ q[:, order])[0]
    return out


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("shape", [(4, 4), (5, 5)])
def test_the_rule_is_the_loop_of_the_records(shape, every):
    grads = np.random.default_rng(0).standard_normal((8, *shape))
    schedule = gs.trapezoid(0.9, 20, rise=5, foot=0.5)
    mus = [0.5 + 0.4 * min(1, t / 5) for t in range(8)]
    ours, _ = updates_of(gs.whiten_momentum(schedule, refresh_every=every), grads)
    np.testing.assert_allclose(ours, loop(grads, mus, every), atol=1e-7)


def test_the_blend_is_the_loop_of_the_records():
    grads = np.random.default_rng(1).standard_normal((6, 4, 4))
    low = lambda t: jnp.where(t < 3, 0.25, 0.0)
    for bounds in ((0.45, 0.85), (0.0, 1.0)):
        ours, _ = updates_of(gs.whiten_momentum(trust=bounds), grads)
        np.testing.assert_allclose(ours, loop(grads, [0.95] * 6, bounds=bounds), atol=1e-7)
    scheduled, _ = updates_of(gs.whiten_momentum(trust=(low, 1.0)), grads)
    fixed, _ = updates_of(gs.whiten_momentum(trust=(0.0, 1.0)), grads)
    np.testing.assert_allclose(scheduled[:1] + scheduled[3:], fixed[:1] + fixed[3:])
    none, _ = updates_of(gs.whiten_momentum(trust=(0.0, 0.0)), grads)
    plain, _ = updates_of(gs.momentum(0.95), grads)
    np.testing.assert_allclose(none, plain, atol=1e-12)


def test_the_golden_rows_of_the_records():
    """Golden G1b: the first rows of the first three orthogonalized directions."""
    rule = optax.chain(gs.whiten_momentum(), EXACT)
    ours, _ = updates_of(rule, [wave(t) for t in range(3)])
    np.testing.assert_allclose(ours[0], polar(wave(0)), atol=1e-6)
    expected = [[-0.58690633, -0.62145926, -0.31451836], [-0.61038977, -0.51232561, -0.06370316]]
    np.testing.assert_allclose([u[0, :3] for u in ours[1:]], expected, atol=1e-6)


def test_where_it_must_be_muon_it_is():
    """Goldens G1c and G1d: diagonal gradients, and one square gradient all the time."""
    rule = optax.chain(gs.whiten_momentum(), EXACT)
    diagonal = np.diag([3.0, -2.0, 0.5])
    grads = [diagonal * np.array([1 + 0.3 * t, 1 - 0.1 * t, 2.0]) for t in range(5)]
    np.testing.assert_allclose(updates_of(rule, grads)[0][-1], np.sign(diagonal), atol=1e-6)
    steady = [wave(1, 3, 3)] * 5
    np.testing.assert_allclose(updates_of(rule, steady)[0][-1], polar(steady[0]), atol=1e-4)


def test_without_bases_it_is_the_momentum_to_the_bit():
    grads = np.random.default_rng(2).standard_normal((5, 3, 4))
    ours, state = updates_of(gs.whiten_momentum(max_side=2), grads)
    plain, _ = updates_of(gs.momentum(0.95), grads)
    np.testing.assert_array_equal(ours, plain)
    assert state.bases == (None, None)


def test_soap_muon_without_bases_is_muon():
    params = {"kernel": jnp.ones((4, 6)), "bias": jnp.ones(6)}
    grads = [{"kernel": jnp.asarray(wave(t, 4, 6)), "bias": jnp.ones(6)} for t in range(3)]
    ours, theirs = gs.soap_muon(0.1, max_side=3), gs.muon(0.1)
    one, other = ours.init(params), theirs.init(params)
    for g in grads:
        mine, one = ours.update(g, one)
        muons, other = theirs.update(g, other)
        for leaf in params:
            np.testing.assert_allclose(mine[leaf], muons[leaf], atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64])
def test_every_dtype_is_kept_and_zeros_stay(dtype):
    for trust in (None, (0.45, 0.85)):
        rule = gs.whiten_momentum(trust=trust)
        grads = [
            jnp.zeros((2, 3, 4), dtype),
            jnp.ones((2, 3, 4), dtype),
            jnp.zeros((2, 3, 4), dtype),
        ]
        state = rule.init(grads[0])
        for g in grads:
            u, state = rule.update(g, state)
            assert u.dtype == dtype
            assert jnp.isfinite(u).all()
        assert not rule.update(grads[0], rule.init(grads[0]))[0].any()


def test_bad_arguments_are_refused():
    for arguments, message in (
        ({"decay": 1.0}, "whiten_momentum needs 0 <= decay < 1"),
        ({"b2": -0.1}, "whiten_momentum needs 0 <= b2 < 1"),
        ({"refresh_every": 0}, "refresh_every >= 1"),
        ({"eps": -1.0}, "eps >= 0"),
        ({"trust": (0.5, 1.5)}, "0 <= most_trust <= 1, got 1"),
        ({"max_side": -1}, "max_side >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            gs.whiten_momentum(**arguments)
    with unchecked_annotations(), pytest.raises(ValueError, match="no refresh is called 'svd'"):
        gs.whiten_momentum(refresh="svd")  # pyright: ignore[reportArgumentType]
