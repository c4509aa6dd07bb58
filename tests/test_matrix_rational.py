"""Zolotarev's function and Halley's steps against the theory, the SVD, and hostile spectra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrix_oracles import gaussian, hard_stack, polar, reached, through_svd, with_spectrum
from overridden import overridden
from scipy.special import ellipj, ellipk

from gradsmith import matrix
from gradsmith.matrix.inverse import inverse, inverse_factor
from gradsmith.matrix.polar.halley import halley_terms
from gradsmith.matrix.polar.zolotarev import zolotarev_terms

METHODS = {"zolotarev": (matrix.zolotarev, 0.2021), "halley": (matrix.halley, 0.0189)}
"""Each with the largest distance from 1 that its docstring promises."""

EACH = pytest.mark.parametrize(("method", "error"), METHODS.values(), ids=METHODS)
SHAPES = pytest.mark.parametrize("shape", [(80, 80), (70, 150), (150, 70)], ids=str)
GRID = np.concatenate([np.geomspace(1e-3, 1, 200_001), np.linspace(1e-3, 1, 200_001)])


def zolotarev_map(terms, sigma, lower=1e-3):
    gain, weights, shifts = zolotarev_terms(terms, lower)
    return (
        gain * sigma * (1 + sum(w / (sigma**2 + c) for w, c in zip(weights, shifts, strict=True)))
    )


def halley_map(steps, sigma, lower=1e-3):
    for gain, weight, shift in halley_terms(steps, lower):
        sigma = gain * sigma * (1 + weight / (sigma**2 + shift))
    return sigma


def schatten4(x):
    return np.linalg.norm(x @ x.T) ** 0.5


@pytest.mark.parametrize("lower", [1e-4, 1e-3, 1e-2, 0.3])
@pytest.mark.parametrize("terms", [1, 2, 3, 5])
def test_the_shifts_are_zolotarevs(terms, lower):
    _, _, shifts = zolotarev_terms(terms, lower)
    quarter = ellipk(1 - lower**2)
    u = quarter * np.arange(1, 2 * terms, 2) / (2 * terms + 1)
    sn, cn, _, _ = ellipj(u, 1 - lower**2)
    np.testing.assert_allclose(shifts, lower**2 * (sn / cn) ** 2, rtol=1e-7)


@pytest.mark.parametrize("terms", [1, 2, 3])
def test_zolotarevs_error_alternates_as_often_as_the_best_one_must(terms):
    error = zolotarev_map(terms, np.geomspace(1e-3, 1, 400_001)) - 1
    turns = np.flatnonzero(np.diff(np.sign(np.diff(error)))) + 1
    extrema = error[[0, *turns, -1]]
    assert len(extrema) == 2 * terms + 2
    np.testing.assert_allclose(np.abs(extrema), np.abs(extrema[0]), rtol=1e-5)
    assert (np.diff(np.sign(extrema)) != 0).all()


@pytest.mark.parametrize(
    ("out", "error"),
    [
        (zolotarev_map(1, GRID), 0.6025),
        (zolotarev_map(2, GRID), 0.2021),
        (zolotarev_map(3, GRID), 0.0621),
        (halley_map(1, GRID), 0.6025),
        (halley_map(2, GRID), 0.0189),
        (halley_map(3, GRID), 4.22e-7),
    ],
)
def test_the_bands_are_centred_and_as_wide_as_documented(out, error):
    np.testing.assert_allclose((1 - out.min(), out.max() - 1), error, rtol=2e-2)


@EACH
@SHAPES
def test_singular_values_come_near_one(method, error, shape):
    x = hard_stack(*shape)
    out = method(jnp.asarray(x, jnp.float32))
    assert np.linalg.norm(out, 2, axis=(-2, -1)).max() < 1 + error + 0.01
    for values in reached(x, out, above=1.5e-3):
        assert np.abs(values - 1).max() < error + 0.01


@EACH
def test_singular_vectors_are_kept(method, error):
    x = with_spectrum(np.linspace(1, 0.1, 40), 70, 90)
    terms = zolotarev_map if method is matrix.zolotarev else halley_map
    expected = through_svd(x, lambda s: terms(2, s), schatten4)
    # Inverses of matrices of condition 6e4 lose four of float32's seven digits.
    np.testing.assert_allclose(method(jnp.asarray(x, jnp.float32)), expected, atol=2e-3)


@EACH
def test_positive_scaling_changes_nothing(method, error):
    scales = np.array([1.0, 1e-30, 1e-12, 1e12, 1e30])
    x = jnp.asarray(scales[:, None, None] * gaussian(20, 30), jnp.float32)
    plain, *scaled = method(x)
    np.testing.assert_allclose(scaled, [plain] * 4, atol=1e-4)


@EACH
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (100, 70), (1, 4), (4, 1)], ids=str)
def test_zero_stays_zero(method, error, shape):
    np.testing.assert_array_equal(method(jnp.zeros(shape)), np.zeros(shape))


@EACH
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (2, 0, 4)], ids=str)
def test_an_empty_matrix_stays_empty(method, error, shape):
    assert method(jnp.zeros(shape)).shape == shape


@EACH
@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (1, 1)], ids=str)
def test_a_vector_becomes_a_unit_vector(method, error, shape):
    x = gaussian(*shape)
    expected = x / np.linalg.norm(x)
    out = method(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(out, expected, atol=error)


@EACH
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_number_stays_in_its_matrix(method, error, bad):
    x = jnp.asarray(gaussian(3, 70, 90), jnp.float32)
    out = method(x.at[1, 2, 3].set(bad))
    assert not np.isfinite(out[1]).all()
    np.testing.assert_array_equal(out[::2], method(x)[::2])


@EACH
def test_complex_matrices(method, error):
    x = gaussian(70, 90) + 1j * gaussian(70, 90, seed=1)
    u, _, vh = np.linalg.svd(x, full_matrices=False)
    out = method(jnp.asarray(x, jnp.complex64))
    assert np.linalg.norm(np.asarray(out) - u @ vh, 2) < error + 1e-3


@EACH
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(method, error, dtype):
    x = jnp.asarray(gaussian(16, 48), dtype)
    out = method(x)
    assert out.dtype == dtype
    exact = method(x.astype(jnp.float32))
    np.testing.assert_allclose(out.astype(jnp.float32), exact, atol=float(jnp.finfo(dtype).eps) / 2)


def test_three_halley_steps_in_float64_are_the_polar_factor():
    with jax.enable_x64(True):
        x = with_spectrum(np.geomspace(1, 1e-2, 70), 70, 90)
        out = matrix.halley(jnp.asarray(x), steps=4)
        np.testing.assert_allclose(out, polar(x), atol=1e-11)


@EACH
def test_blocks_change_nothing(method, error):
    x = jnp.asarray(gaussian(2, 67, 80), jnp.float32)
    whole = method(x)
    with overridden(blocks_from=8):
        in_blocks = method(x)
    np.testing.assert_allclose(in_blocks, whole, atol=1e-4)


@pytest.mark.parametrize("n", [1, 5, 130])
def test_the_inverse_is_one(n):
    x = gaussian(2, n, n)
    a = x @ np.swapaxes(x, -1, -2) / n + 0.1 * np.eye(n)
    np.testing.assert_allclose(
        inverse(jnp.asarray(a, jnp.float32), 0.1), np.linalg.inv(a), atol=2e-4
    )
    m = inverse_factor(jnp.asarray(a, jnp.float32), 0.1)
    np.testing.assert_array_equal(m, np.tril(m))


def test_an_indefinite_matrix_is_lifted_to_the_floor():
    a = np.diag([1.0, 0.25, -3.0, 1e-9])
    out = inverse(jnp.asarray(a, jnp.float32), 1e-4)
    np.testing.assert_allclose(np.diag(out), [1.0, 4.0, 1e4, 1e4], rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: matrix.zolotarev(x, 0), "terms >= 1, got 0"),
        (lambda x: matrix.zolotarev(x, lower=0.0), "0 < lower < 1, got 0.0"),
        (lambda x: matrix.halley(x, 0), "steps >= 1, got 0"),
        (lambda x: matrix.halley(x, lower=1.0), "0 < lower < 1, got 1.0"),
    ],
)
def test_what_makes_no_function_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.zeros((2, 2)))
