"""Newton-Schulz against a float64 loop, against the float64 SVD, and at the edges of its domain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrix_oracles import (
    HARD_SPECTRA,
    gaussian,
    newton_schulz_loop,
    scalar_map,
    through_svd,
    with_spectrum,
)

from gradsmith.matrix import SCHEDULES, newton_schulz

NAMES = pytest.mark.parametrize("name", SCHEDULES)
SHAPES = pytest.mark.parametrize("shape", [(6, 6), (5, 9), (9, 5), (1, 7), (7, 1), (1, 1)], ids=str)

# A rounding error of the input grows by the slope of a schedule at zero, at most about 1e3 for the
# five-step ones: 1e3 * 6e-8 leaves 6e-5 of a singular value. The longer ones send everything to 1.
AMPLIFIED = 2e-4


def oracle(x, name, **kwargs):
    schedule = SCHEDULES[name]
    return newton_schulz_loop(x, schedule.coefficients, slack=schedule.slack, **kwargs)


@NAMES
@SHAPES
def test_agrees_with_a_float64_loop(name, shape):
    x = gaussian(*shape)
    out = newton_schulz(jnp.asarray(x, jnp.float32), name)
    np.testing.assert_allclose(out, oracle(x, name), atol=AMPLIFIED)


@NAMES
def test_keeps_singular_vectors_and_maps_singular_values(name):
    schedule = SCHEDULES[name]
    x = with_spectrum([1, 0.5, 0.1, 0.03, 0.01], 5, 12)
    expected = through_svd(x, lambda s: scalar_map(schedule.coefficients, s / schedule.slack))
    np.testing.assert_allclose(newton_schulz(jnp.asarray(x, "float32"), name), expected, atol=5e-4)


@NAMES
@pytest.mark.parametrize("spectrum", HARD_SPECTRA)
def test_singular_values_land_in_the_band(name, spectrum):
    x = with_spectrum(HARD_SPECTRA[spectrum](32), 32, 96)
    schedule = SCHEDULES[name]
    out = np.asarray(newton_schulz(jnp.asarray(x, jnp.float32), name), np.float64)
    u, s, vh = np.linalg.svd(x / np.linalg.norm(x), full_matrices=False)
    reached = np.diag(u.T @ out @ vh.T)[s >= 1e-3]
    # The slope of 'double' at zero is 4096: rounding moves small singular values by up to 2e-3.
    assert reached.min() >= schedule.band[0] - 3e-3
    assert reached.max() <= schedule.band[1] + 3e-3
    assert np.linalg.norm(out, 2) <= schedule.band[1] + 3e-3


def test_keller_does_what_the_published_numbers_say():
    out = newton_schulz(jnp.diag(jnp.array([4.0, 3.0, 0.0])))
    np.testing.assert_allclose(np.diag(out), [1.1192039299, 0.7228761686, 0.0], atol=2e-6)


def test_rank_one_comes_out_as_the_map_of_one():
    u, v = gaussian(7), gaussian(9, seed=1)
    x = np.outer(u, v)
    expected = 0.6964364095 * x / np.linalg.norm(x)
    np.testing.assert_allclose(newton_schulz(jnp.asarray(1e-5 * x, "float32")), expected, atol=5e-5)


@NAMES
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-3, 1e12, 1e30])
def test_positive_scaling_changes_nothing(name, scale):
    x = gaussian(5, 8)
    plain = newton_schulz(jnp.asarray(x, jnp.float32), name)
    scaled = newton_schulz(jnp.asarray(scale * x, jnp.float32), name)
    np.testing.assert_allclose(scaled, plain, atol=AMPLIFIED)


@NAMES
def test_the_transpose_gives_the_transpose(name):
    x = jnp.asarray(gaussian(3, 5, 9), jnp.float32)
    np.testing.assert_array_equal(newton_schulz(x.mT, name), newton_schulz(x, name).mT)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (1, 4), (4, 1)], ids=str)
def test_zero_stays_zero(shape):
    np.testing.assert_array_equal(newton_schulz(jnp.zeros(shape)), np.zeros(shape))


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0), (0, 3, 4), (2, 0, 4)], ids=str)
def test_an_empty_matrix_stays_empty(shape):
    assert newton_schulz(jnp.zeros(shape)).shape == shape


def test_every_matrix_of_a_stack_is_treated_alone():
    x = jnp.asarray(gaussian(2, 3, 4, 6), jnp.float32)
    x = x * jnp.asarray([[[[1e-20]], [[1.0]], [[1e20]]]], jnp.float32)
    out = newton_schulz(x)
    for i in range(2):
        for j in range(3):
            np.testing.assert_allclose(out[i, j], newton_schulz(x[i, j]), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_number_stays_in_its_matrix(bad):
    x = jnp.asarray(gaussian(3, 4, 6), jnp.float32)
    out = newton_schulz(x.at[1, 2, 3].set(bad))
    assert not np.isfinite(out[1]).any()
    np.testing.assert_array_equal(out[::2], newton_schulz(x)[::2])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(dtype):
    x = jnp.asarray(gaussian(16, 48), dtype)
    out = newton_schulz(x)
    assert out.dtype == dtype
    exact = oracle(np.asarray(x, np.float64), "keller")
    # Only the result is rounded: half a unit in the last place of numbers up to 1.
    np.testing.assert_allclose(
        np.asarray(out, np.float64), exact, atol=float(jnp.finfo(dtype).eps) / 2
    )


def test_float64_is_computed_in_float64():
    with jax.enable_x64(True):
        x = gaussian(6, 9)
        out = newton_schulz(jnp.asarray(x), "polar_express")
        assert out.dtype == jnp.float64
        np.testing.assert_allclose(out, oracle(x, "polar_express"), atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4)], ids=str)
def test_complex_matrices(shape):
    x = gaussian(*shape) + 1j * gaussian(*shape, seed=1)
    out = newton_schulz(jnp.asarray(x, jnp.complex64))
    assert out.dtype == jnp.complex64
    np.testing.assert_allclose(out, oracle(x, "keller"), atol=AMPLIFIED)


def test_eps_damps_what_is_small_as_the_published_code_does():
    x = gaussian(4, 6) * 1e-7
    out = newton_schulz(jnp.asarray(x, jnp.float32), eps=1e-7)
    np.testing.assert_allclose(out, oracle(x, "keller", eps=1e-7), atol=AMPLIFIED)
    assert np.abs(np.asarray(out) - oracle(x, "keller")).max() > 0.02


def test_steps_are_counted():
    x = gaussian(4, 6)
    for steps in (1, 3, 7):
        expected = newton_schulz_loop(x, [(3.4445, -4.7750, 2.0315)] * steps)
        np.testing.assert_allclose(
            newton_schulz(jnp.asarray(x, jnp.float32), steps=steps), expected, atol=AMPLIFIED
        )


def test_jit_and_vmap_change_nothing():
    x = jnp.asarray(gaussian(3, 4, 6), jnp.float32)
    plain = newton_schulz(x)
    np.testing.assert_allclose(jax.jit(newton_schulz)(x), plain, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(newton_schulz)(x), plain, atol=1e-5)


def test_a_wrong_schedule_is_refused():
    with pytest.raises(ValueError, match="no schedule is called 'jordan'"):
        newton_schulz(jnp.zeros((2, 2)), "jordan")
    with pytest.raises(ValueError, match="'you' is made for 5 steps, got steps=4"):
        newton_schulz(jnp.zeros((2, 2)), "you", steps=4)
