"""SOAP against a float64 NumPy loop over one matrix, and where it must be Adam or the polar factor.

In float64 throughout: an off-diagonal round-off of a rotated gradient is divided by its own root
mean square, so float32 would compare noise of order one.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matrix_oracles import unchecked_annotations

import gradsmith as gs
from gradsmith.transforms.kl_factors import kl_statistics
from gradsmith.transforms.kronecker import Pair, check_sides

B1, B2, EPS = 0.9, 0.8, 1e-8


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def gradients(steps, *shape, seed=0):
    return np.random.default_rng(seed).standard_normal((steps, *shape))


def updates_of(tx, grads):
    state = tx.init(jnp.asarray(grads[0]))
    update, out = jax.jit(tx.update), []
    for g in grads:
        u, state = update(jnp.asarray(g), state)
        out.append(np.asarray(u))
    return np.stack(out), state


def soap_loop(grads, every, *, start, refresh="qr", kl=False, sides=(True, True)):
    """One matrix `(m, n)` as the authors' code goes: the momentum is turned back every step."""
    m, n = grads[0].shape
    left, right = np.zeros((m, m)), np.zeros((n, n))
    if kl:
        scale = np.mean(grads[0] ** 2)
        left, right = scale * np.eye(m), (1.0 if sides[0] else scale) * np.eye(n)
    q, p = np.eye(m), np.eye(n)
    mean, square, t, out = np.zeros((m, n)), np.zeros((m, n)), 0, []
    for step, g in enumerate(grads):
        moved = not (start == "eigh" and step == 0)
        if moved:
            t += 1
            turned = q.T @ g @ p
            mean = B1 * mean + (1 - B1) * g  # unrotated
            square = B2 * square + (1 - B2) * turned**2
            m_hat = q.T @ mean @ p / (1 - B1**t)
            out.append(q @ (m_hat / (np.sqrt(square / (1 - B2**t)) + EPS)) @ p.T)
        else:
            out.append(np.zeros((m, n)))
        seen_left, seen_right = g @ g.T, g.T @ g
        if kl:
            values_left, values_right = np.diag(q.T @ left @ q), np.diag(p.T @ right @ p)
            if not sides[0]:
                values_left = np.ones(m)
            if not sides[1]:
                values_right = np.ones(n)
            seen_left = g @ p @ np.diag(1 / values_right) @ p.T @ g.T / n
            seen_right = g.T @ q @ np.diag(1 / values_left) @ q.T @ g / m
        left = B2 * left + (1 - B2) * seen_left
        right = B2 * right + (1 - B2) * seen_right
        if step % every == 0:
            how = "eigh" if start == "eigh" and step == 0 else refresh
            if sides[0]:
                q, order = turn(left, q, how)
                square = square[order]
            if sides[1]:
                p, order = turn(right, p, how)
                square = square[:, order]
    return np.stack(out)


def turn(factor, basis, how):
    order = np.argsort(-np.diag(basis.T @ factor @ basis), kind="stable")
    if how == "eigh":
        return np.linalg.eigh(factor)[1][:, ::-1], order
    return np.linalg.qr(factor @ basis[:, order])[0], order


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((5, 5), {"start": "identity"}),
        ((5, 5), {"start": "eigh"}),
        ((5, 5), {"start": "identity", "refresh": "eigh"}),
        ((5, 5), {"start": "eigh", "factors": "kl"}),
        # A gradient of 4 x 7 leaves three directions of the fan-out arbitrary until others come,
        # and with them the basis; not so where the factors start at the identity.
        ((4, 7), {"start": "identity", "factors": "kl"}),
        ((7, 4), {"start": "identity", "factors": "kl"}),
    ],
    ids=str,
)
def test_soap_is_the_loop_of_its_authors(shape, arguments):
    """A momentum kept in the basis and turned at refreshes is one that is turned every step."""
    grads = gradients(9, *shape)
    ours, _ = updates_of(
        gs.scale_by_soap(B1, B2, EPS, refresh_every=3, **arguments), grads[:, None]
    )
    arguments = dict(arguments)
    kl = arguments.pop("factors", "shampoo") == "kl"
    np.testing.assert_allclose(ours[:, 0], soap_loop(grads, 3, kl=kl, **arguments), atol=1e-7)


@pytest.mark.parametrize(
    ("choice", "sides", "shape"),
    [
        ("fan_in", (True, False), (4, 4)),
        ("smaller", (True, False), (4, 7)),
        ("smaller", (False, True), (7, 4)),
    ],
)
@pytest.mark.parametrize("factors", ["shampoo", "kl"])
def test_one_sided_soap_is_the_loop_with_one_basis(choice, sides, shape, factors):
    grads = gradients(7, *shape)
    rule = gs.scale_by_soap(B1, B2, EPS, refresh_every=2, sides=choice, factors=factors)
    ours, state = updates_of(rule, grads[:, None])
    theirs = soap_loop(grads, 2, start="identity", sides=sides, kl=factors == "kl")
    np.testing.assert_allclose(ours[:, 0], theirs, atol=1e-7)
    assert [basis is not None for basis in state.bases] == list(sides)


def test_a_side_that_is_too_long_keeps_its_basis():
    grads = gradients(6, 1, 4, 7)
    limited, state = updates_of(gs.scale_by_soap(max_side=5, refresh_every=2), grads)
    one_sided, _ = updates_of(gs.scale_by_soap(sides="fan_in", refresh_every=2), grads)
    np.testing.assert_array_equal(limited, one_sided)
    assert state.bases.fan_out is None


@pytest.mark.parametrize(("factors", "shape"), [("shampoo", (4, 6)), ("kl", (5, 5))])
def test_soap_of_diagonal_gradients_is_adam(factors, shape):
    """Goldens S5 and S12. The bases only permute, and the mean square is permuted with them."""
    grads = gradients(12, 1, *shape) * np.eye(*shape)
    adam, _ = updates_of(gs.scale_by_adam(B1, B2, EPS), grads)
    soap, _ = updates_of(gs.scale_by_soap(B1, B2, EPS, refresh_every=2, factors=factors), grads)
    np.testing.assert_allclose(soap, adam, atol=1e-7)  # round-off of 1e-16 over an eps of 1e-8
    late, _ = updates_of(
        gs.scale_by_soap(B1, B2, EPS, refresh_every=2, factors=factors, start="eigh"), grads
    )
    shifted, _ = updates_of(gs.scale_by_adam(B1, B2, EPS), grads[1:])
    assert not late[0].any()
    np.testing.assert_allclose(late[1:], shifted, atol=1e-6)


def test_soap_without_bases_is_adam():
    """Golden S7."""
    grads = gradients(5, 2, 4, 6)
    adam, _ = updates_of(gs.scale_by_adam(B1, B2, EPS), grads)
    soap, _ = updates_of(gs.scale_by_soap(B1, B2, EPS, max_side=3), grads)
    np.testing.assert_array_equal(soap, adam)


def test_soap_of_a_rotated_square_problem_is_rotated():
    """Golden S6, from a first basis that is the gradient's own."""
    grads = gradients(9, 1, 5, 5)
    u, v = (np.linalg.qr(gradients(1, 5, 5, seed=seed)[0])[0] for seed in (1, 2))
    rule = gs.scale_by_soap(B1, B2, EPS, refresh_every=2, start="eigh")
    plain, _ = updates_of(rule, grads)
    rotated, _ = updates_of(rule, u @ grads @ v)
    np.testing.assert_allclose(rotated, u @ plain @ v, atol=1e-7)


def test_soap_of_a_constant_square_gradient_is_its_polar_factor():
    """Adam in the singular basis divides every singular value by itself."""
    g = gradients(1, 5, 5)[0]
    rule = gs.scale_by_soap(B1, B2, EPS, start="eigh")
    updates, _ = updates_of(rule, np.stack([g[None]] * 3))  # EPS hides round-off of 1e-16
    u, _, vt = np.linalg.svd(g)
    np.testing.assert_allclose(updates[1, 0], u @ vt, atol=1e-6)


def test_kl_factors_stay_at_the_true_covariance():
    """Golden S13: for `G = A Z B^T`, `E[G G^T]` weighed by `(B B^T)^-1` over `n` is `A A^T`.

    The statistic is quadratic in `G`, so its mean over white `Z` is its sum over the unit matrices.
    """
    m, n = 4, 6
    a, b = gradients(1, m, m, seed=1)[0], gradients(1, n, n, seed=2)[0]
    units = np.eye(m * n).reshape(m * n, m, n)
    stack = jnp.asarray(a @ units @ b.T)
    spread = lambda x: jnp.broadcast_to(jnp.asarray(x), (m * n, *x.shape))
    (values_in, q), (values_out, p) = np.linalg.eigh(a @ a.T), np.linalg.eigh(b @ b.T)
    bases = Pair(spread(q), spread(p))
    values = Pair(spread(values_in), spread(values_out))
    halves, diagonals = kl_statistics(bases, values, stack)
    np.testing.assert_allclose((halves.fan_in @ halves.fan_in.mT).sum(0), a @ a.T, atol=1e-9)
    np.testing.assert_allclose((halves.fan_out.mT @ halves.fan_out).sum(0), b @ b.T, atol=1e-9)
    np.testing.assert_allclose(diagonals.fan_in.sum(0), values_in, atol=1e-9)
    np.testing.assert_allclose(diagonals.fan_out.sum(0), values_out, atol=1e-9)


def test_kl_eigenvalues_are_those_of_the_factors_in_their_bases():
    _, state = updates_of(gs.scale_by_soap(refresh_every=3, factors="kl"), gradients(8, 2, 4, 6))
    for factor, basis, values in zip(state.factors, state.bases, state.eigenvalues, strict=True):
        exact = np.einsum("kij,kil,klj->kj", basis, factor, basis)
        np.testing.assert_allclose(values, exact, rtol=1e-9)


@pytest.mark.parametrize(
    ("shape", "rank", "arguments", "is_determined"),
    [
        ((4, 7), 4, {}, False),
        ((4, 7), 4, {"sides": "smaller"}, True),
        ((4, 7), 4, {"factors": "kl"}, True),
        ((5, 5), 2, {}, False),
        ((5, 5), 2, {"factors": "kl"}, True),
    ],
    ids=str,
)
def test_rounding_chooses_the_basis_of_what_no_gradient_has_had(
    shape, rank, arguments, is_determined
):
    """One gradient of low rank, then others; all differ from a second run by 1e-15."""
    grads = gradients(6, *shape)
    u, s, vt = np.linalg.svd(grads[0])
    grads[0] = (u[:, :rank] * s[:rank]) @ vt[:rank]
    rule = gs.scale_by_soap(B1, B2, EPS, refresh_every=2, **arguments)
    one, _ = updates_of(rule, grads[:, None])
    other, _ = updates_of(rule, (grads + 1e-15 * gradients(6, *shape, seed=1))[:, None])
    distance = np.abs(one - other).max()
    assert distance < 1e-6 if is_determined else distance > 0.1


@pytest.mark.parametrize("factors", ["shampoo", "kl"])
def test_soap_does_not_feel_the_scale_of_the_loss(factors):
    grads = gradients(6, 1, 4, 4)
    rule = gs.scale_by_soap(B1, B2, 0.0, refresh_every=2, factors=factors)
    one, _ = updates_of(rule, grads)
    tiny, _ = updates_of(rule, 1e-12 * grads)
    np.testing.assert_allclose(tiny, one, atol=1e-6)


def test_bases_move_at_their_cadence_and_the_branch_stays_a_branch():
    grads = gradients(6, 2, 3, 4)
    rule = gs.per_stack(gs.scale_by_soap(refresh_every=3), axes=gs.MatrixAxes(-2, -1, 0))
    params = jnp.asarray(grads[0])
    state, turned = rule.init(params), []
    update = jax.jit(rule.update)
    for g in grads:
        before = state
        _, state = update(jnp.asarray(g), state)
        (old,), (new,) = before.buckets.values(), state.buckets.values()
        turned.append(bool(np.any(old.bases.fan_in != new.bases.fan_in)))
    assert turned == [False, True, False, False, True, False]  # within the step after
    text = str(jax.make_jaxpr(rule.update)(params, state))
    assert " cond[" in text
    assert "eigh" not in text
    assert "eigh" in str(jax.make_jaxpr(gs.scale_by_soap(start="eigh").update)(params, new))


def test_a_matrix_takes_its_steps_alone_whatever_shares_its_bucket():
    grads = gradients(6, 3, 4, 6)
    rule = gs.scale_by_soap(refresh_every=2, sides="fan_in", factors="kl")
    together, _ = updates_of(rule, grads)
    for i in range(3):
        alone, _ = updates_of(rule, grads[:, i : i + 1])
        np.testing.assert_allclose(together[:, i], alone[:, 0], atol=1e-7)


def test_fan_in_is_what_the_axes_say():
    grads = gradients(4, 4, 6)
    rule = gs.scale_by_soap(sides="fan_in", refresh_every=2)
    flax, _ = updates_of(gs.per_stack(rule, axes=gs.MatrixAxes(0, 1)), grads)
    equinox, state = updates_of(gs.per_stack(rule, axes=gs.MatrixAxes(1, 0)), grads.mT)
    np.testing.assert_allclose(equinox, flax.mT, atol=1e-12)
    (soap,) = state.buckets.values()
    assert soap.bases.fan_in.shape == (1, 4, 4)


@pytest.mark.parametrize(
    ("dtype", "factors"),
    [
        (jnp.bfloat16, "shampoo"),
        (jnp.float16, "kl"),
        (jnp.float32, "shampoo"),
        (jnp.complex64, "kl"),
    ],
)
def test_every_dtype_keeps_wide_state_under_scan(dtype, factors):
    grads = jnp.asarray(gradients(5, 2, 3, 4), dtype)
    rule = gs.scale_by_soap(refresh_every=2, factors=factors)

    def step(state, g):
        updates, state = rule.update(g, state)
        return state, updates

    state, updates = jax.lax.scan(step, rule.init(grads[0]), grads)
    assert updates.dtype == dtype
    assert np.isfinite(updates.astype(jnp.complex64)).all()
    wide = {leaf.dtype for leaf in jax.tree.leaves(state)} - {jnp.dtype(jnp.int32)}
    assert wide == {jnp.dtype(jnp.complex64 if dtype == jnp.complex64 else jnp.float32)}


def test_complex_gradients_of_real_numbers_step_as_real_ones():
    grads = gradients(5, 1, 3, 4)
    rule = gs.scale_by_soap(refresh_every=2, sides="fan_in")
    real, _ = updates_of(rule, grads)
    imaginary, _ = updates_of(rule, 1j * grads)
    np.testing.assert_allclose(imaginary, 1j * real, atol=1e-7)


def test_a_matrix_of_no_entries_leaves_finite_states():
    _, state = updates_of(gs.scale_by_soap(factors="kl"), np.zeros((2, 1, 0, 3)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_zero_gradients_move_nothing():
    updates, _ = updates_of(gs.scale_by_soap(refresh_every=1, factors="kl"), np.zeros((3, 1, 3, 4)))
    assert not updates.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"refresh_every": 0},
            "scale_by_soap needs refresh_every >= 1, a whole number of steps, got 0",
        ),
        ({"b1": 1.0}, r"scale_by_soap needs 0 <= b1 < 1, got 1\.0"),
        ({"factor_decay": -0.1}, "needs 0 <= factor_decay < 1"),
        ({"refresh": "svd"}, "no refresh is called 'svd'; there are qr, qr_unsorted, eigh"),
        ({"start": "zero"}, "no start is called 'zero'; there are identity, eigh"),
        ({"factors": "gram"}, "no kind of factors is called 'gram'; there are shampoo, kl"),
        ({"sides": "left"}, "no choice of sides is called 'left'; there are both, fan_in"),
        ({"eps": -1.0}, "scale_by_adam needs eps >= 0"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_when_building(arguments, message):
    with unchecked_annotations(), pytest.raises(ValueError, match=message):
        gs.scale_by_soap(**arguments)


def test_a_traced_cadence_and_decay_do_not_recompile():
    grads = jnp.asarray(gradients(1, 1, 3, 3)[0])

    @jax.jit
    def step(b2, every, state):
        return gs.scale_by_soap(b2=b2, refresh_every=every).update(grads, state)

    state = gs.scale_by_soap().init(grads)
    step(0.9, 2, state)
    updates, _ = step(0.8, 5, state)
    assert step._cache_size() == 1
    assert optax.tree.norm(updates) > 0


def test_a_side_that_is_traced_is_refused_with_the_remedy():
    with unchecked_annotations(), pytest.raises(TypeError, match=r"static_args=\('max_side',\)"):
        check_sides("soap", "both", jnp.asarray(100))


def test_a_step_copies_neither_factors_nor_bases():
    """What is donated stays where it is, in every step and not only where nothing is due."""
    rule = gs.scale_by_soap(refresh_every=3)
    stack = jax.ShapeDtypeStruct((2, 640, 64), jnp.float32)
    state = jax.eval_shape(rule.init, stack)
    compiled = jax.jit(rule.update, donate_argnums=1).lower(stack, state).compile()
    assert re.search(r"f32\[2,640,640\]\S* parameter\(", compiled.as_text())
    assert not re.search(r"= f32\[2,640,640\]\S* copy\(", compiled.as_text())


def record_loop(grads, b1=0.95, b2=0.9, decay=0.9):
    """One matrix as in record 19: the first gradient sets all, and columns keep their places."""
    m, n = grads[0].shape
    factors = [grads[0] @ grads[0].T / n, grads[0].T @ grads[0] / m]
    q, p = (np.linalg.eigh(x)[1][:, ::-1] for x in factors)
    values_left, values_right = np.full(m, 0.1), np.full(n, 0.1)
    mean, square, out = np.zeros((m, n)), np.zeros((m, n)), [np.zeros((m, n))]
    for g in grads[1:]:
        seen = q.T @ g @ p
        mean = b1 * mean + (1 - b1) * g
        square = b2 * square + (1 - b2) * seen**2
        out.append(q @ (q.T @ mean @ p / (np.sqrt(square) + 1e-8)) @ p.T)
        new_left = g @ p @ np.diag(1 / values_right) @ p.T @ g.T / n
        new_right = g.T @ q @ np.diag(1 / values_left) @ q.T @ g / m
        factors = [
            decay * a + (1 - decay) * b for a, b in zip(factors, (new_left, new_right), strict=True)
        ]
        values_left, values_right = (
            decay * values_left + (1 - decay) * np.mean(seen**2 / values_right, 1),
            decay * values_right + (1 - decay) * np.mean(seen**2 / values_left[:, None], 0),
        )
        q, p = (np.linalg.qr(a @ b)[0] for a, b in zip(factors, (q, p), strict=True))
    return np.stack(out)


def test_kl_soap_of_the_records_is_their_loop():
    grads = gradients(9, 5, 5)
    rule = gs.scale_by_soap(
        0.95, 0.9, factors="kl", refresh_every=1, start="eigh", refresh="qr_unsorted", debias=False
    )
    ours, _ = updates_of(rule, grads[:, None])
    np.testing.assert_allclose(ours[:, 0], record_loop(grads), atol=1e-7)
