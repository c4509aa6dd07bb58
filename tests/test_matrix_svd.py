"""The exact polar factor against the float64 SVD, and what it does where that is not unique."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrix_oracles import (
    assert_derivative_is_a_difference,
    gaussian,
    polar,
    with_spectrum,
)

from gradsmith.matrix import svd_polar


@pytest.mark.parametrize("shape", [(6, 6), (5, 9), (9, 5), (1, 7), (7, 1)], ids=str)
def test_is_the_polar_factor(shape):
    x = gaussian(*shape)
    np.testing.assert_allclose(svd_polar(jnp.asarray(x, jnp.float32)), polar(x), atol=1e-5)


def test_float64_is_exact_to_rounding():
    with jax.enable_x64(True):
        x = gaussian(5, 8)
        out = svd_polar(jnp.asarray(x))
        np.testing.assert_allclose(out, polar(x), atol=1e-13)
        np.testing.assert_allclose(out @ out.T, np.eye(5), atol=1e-13)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)], ids=str)
def test_derivatives_exist_where_singular_values_are_equal(shape):
    with jax.enable_x64(True):
        x = jnp.asarray(with_spectrum([2.0, 2.0, 1.0, 0.5][: min(shape)], *shape))
        assert_derivative_is_a_difference(svd_polar, x, jnp.asarray(gaussian(*shape)))


def test_the_derivative_of_a_singular_matrix_is_that_among_those_of_its_rank():
    with jax.enable_x64(True):
        left, right = jnp.asarray(gaussian(5, 2)), jnp.asarray(gaussian(2, 4, seed=1))
        assert_derivative_is_a_difference(
            lambda left: svd_polar(left @ right), left, jnp.asarray(gaussian(5, 2, seed=2))
        )


def test_the_null_space_stays_null():
    x = with_spectrum([3.0, 2.0], 5, 7)
    np.testing.assert_allclose(svd_polar(jnp.asarray(x, jnp.float32)), polar(x), atol=1e-5)
    np.testing.assert_array_equal(svd_polar(jnp.zeros((3, 4))), np.zeros((3, 4)))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_positive_scaling_changes_nothing(scale):
    x = gaussian(5, 8)
    np.testing.assert_allclose(svd_polar(jnp.asarray(scale * x, "float32")), polar(x), atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (2, 0, 4)], ids=str)
def test_an_empty_matrix_stays_empty(shape):
    assert svd_polar(jnp.zeros(shape)).shape == shape


def test_nan_stays_in_its_matrix():
    x = jnp.asarray(gaussian(3, 4, 6), jnp.float32)
    out = svd_polar(x.at[1, 2, 3].set(jnp.nan))
    assert np.isnan(out[1]).all()
    np.testing.assert_allclose(out[::2], svd_polar(x)[::2], atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.complex64])
def test_keeps_the_dtype(dtype):
    x = jnp.asarray(gaussian(4, 6), dtype)
    out = svd_polar(x)
    assert out.dtype == dtype
    wide = np.asarray(x.astype(jnp.complex64).real, np.float64)
    np.testing.assert_allclose(
        np.asarray(out.astype(jnp.complex64).real),
        polar(wide),
        atol=max(float(jnp.finfo(dtype).eps) / 2, 1e-5),
    )


def test_complex_matrices():
    x = gaussian(4, 6) + 1j * gaussian(4, 6, seed=1)
    u, _, vh = np.linalg.svd(x, full_matrices=False)
    np.testing.assert_allclose(svd_polar(jnp.asarray(x, jnp.complex64)), u @ vh, atol=1e-5)
