"""Both forms of Newton-Schulz against a float64 loop and the SVD, and at the edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrix_oracles import (
    gaussian,
    hard_stack,
    newton_schulz_loop,
    reached,
    scalar_map,
    through_svd,
    with_spectrum,
)
from overridden import overridden

from gradsmith import matrix
from gradsmith.matrix import SCHEDULES
from gradsmith.xla.targets import NEVER


@pytest.fixture(params=["standard", "gram", "gram in blocks"])
def newton_schulz(request):
    """The iteration on the matrix, on its Gram matrix, and on the blocks of that."""
    gram = request.param != "standard"
    with overridden(blocks_from=2 if request.param == "gram in blocks" else NEVER):
        yield matrix.gram_newton_schulz if gram else matrix.newton_schulz


NAMES = pytest.mark.parametrize("name", SCHEDULES)
SHAPES = pytest.mark.parametrize("shape", [(6, 6), (5, 9), (9, 5), (1, 7)], ids=str)

# A rounding error of the input grows by the slope of a schedule at zero, at most about 1e3 for the
# five-step ones: 1e3 * 6e-8 leaves 6e-5 of a singular value. The longer ones send everything to 1.
AMPLIFIED = 2e-4


def oracle(x, name, **kwargs):
    schedule = SCHEDULES[name]
    return newton_schulz_loop(x, schedule.coefficients, slack=schedule.slack, **kwargs)


@NAMES
@SHAPES
def test_agrees_with_a_float64_loop(newton_schulz, name, shape):
    x = gaussian(*shape)
    out = newton_schulz(jnp.asarray(x, jnp.float32), name, normalizer="frobenius")
    np.testing.assert_allclose(out, oracle(x, name), atol=AMPLIFIED)


@NAMES
def test_keeps_singular_vectors_and_maps_singular_values(newton_schulz, name):
    schedule = SCHEDULES[name]
    x = with_spectrum([1, 0.5, 0.1, 0.03, 0.01], 5, 12)
    expected = through_svd(x, lambda s: scalar_map(schedule.coefficients, s / schedule.slack))
    out = newton_schulz(jnp.asarray(x, jnp.float32), name, normalizer="frobenius")
    np.testing.assert_allclose(out, expected, atol=5e-4)


@NAMES
def test_singular_values_land_in_the_band(newton_schulz, name):
    x = hard_stack(32, 96)
    low, high = SCHEDULES[name].band
    out = newton_schulz(jnp.asarray(x, jnp.float32), name, normalizer="frobenius")
    # The slope of 'double' at zero is 4096: rounding moves small singular values by up to 2e-3, and
    # up to (prod a)^2 u = 0.014 in the Gram form.
    slack = 3e-3 if newton_schulz is matrix.newton_schulz else 0.02
    assert np.linalg.norm(out, 2, axis=(-2, -1)).max() <= high + slack
    for values in reached(x, out, above=1e-3):
        assert values.min() >= low - slack
        assert values.max() <= high + slack


def test_keller_does_what_the_published_numbers_say(newton_schulz):
    out = newton_schulz(jnp.diag(jnp.array([4.0, 3.0, 0.0])))
    np.testing.assert_allclose(np.diag(out), [1.1192039299, 0.7228761686, 0.0], atol=2e-6)


def test_rank_one_comes_out_as_the_map_of_one(newton_schulz):
    u, v = gaussian(7), gaussian(9, seed=1)
    x = np.outer(u, v)
    expected = 0.6964364095 * x / np.linalg.norm(x)
    # The singular values that are rounding errors grow by the slope at zero, as in every matrix.
    out = newton_schulz(jnp.asarray(1e-5 * x, "float32"))
    np.testing.assert_allclose(out, expected, atol=AMPLIFIED)


@NAMES
def test_positive_scaling_changes_nothing(newton_schulz, name):
    scales = np.array([1.0, 1e-30, 1e-12, 1e-3, 1e12, 1e30])
    x = jnp.asarray(scales[:, None, None] * gaussian(5, 8), jnp.float32)
    plain, *scaled = newton_schulz(x, name)
    np.testing.assert_allclose(scaled, [plain] * 5, atol=AMPLIFIED)


@NAMES
def test_the_transpose_gives_the_transpose(newton_schulz, name):
    x = jnp.asarray(gaussian(3, 5, 9), jnp.float32)
    np.testing.assert_allclose(
        newton_schulz(x.mT, name),
        newton_schulz(x, name).mT,
        atol=1e-4,  # rounding, 500 times enlarged: sums of a product may come in another order
    )


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (1, 4), (4, 1)], ids=str)
def test_zero_stays_zero(newton_schulz, shape):
    np.testing.assert_array_equal(newton_schulz(jnp.zeros(shape)), np.zeros(shape))


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0), (0, 3, 4), (2, 0, 4)], ids=str)
def test_an_empty_matrix_stays_empty(newton_schulz, shape):
    assert newton_schulz(jnp.zeros(shape)).shape == shape


def test_every_matrix_of_a_stack_is_treated_alone(newton_schulz):
    x = jnp.asarray(gaussian(2, 3, 4, 6), jnp.float32)
    x = x * jnp.asarray([[[[1e-20]], [[1.0]], [[1e20]]]], jnp.float32)
    out = newton_schulz(x)
    for i in range(2):
        for j in range(3):
            np.testing.assert_allclose(out[i, j], newton_schulz(x[i, j]), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_number_stays_in_its_matrix(newton_schulz, bad):
    x = jnp.asarray(gaussian(3, 4, 6), jnp.float32)
    out = newton_schulz(x.at[1, 2, 3].set(bad))
    assert not np.isfinite(out[1]).any()
    np.testing.assert_array_equal(out[::2], newton_schulz(x)[::2])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_in_float32(newton_schulz, dtype):
    x = jnp.asarray(gaussian(16, 48), dtype)
    out = newton_schulz(x)
    assert out.dtype == dtype
    exact = oracle(np.asarray(x, np.float64), "keller")
    # Only the result is rounded: half a unit in the last place of numbers up to 1.
    np.testing.assert_allclose(
        np.asarray(out, np.float64), exact, atol=float(jnp.finfo(dtype).eps) / 2
    )


def test_float64_is_computed_in_float64(newton_schulz):
    with jax.enable_x64(True):
        x = gaussian(6, 9)
        out = newton_schulz(jnp.asarray(x), "polar_express")
        assert out.dtype == jnp.float64
        np.testing.assert_allclose(out, oracle(x, "polar_express"), atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4)], ids=str)
def test_complex_matrices(newton_schulz, shape):
    x = gaussian(*shape) + 1j * gaussian(*shape, seed=1)
    out = newton_schulz(jnp.asarray(x, jnp.complex64))
    assert out.dtype == jnp.complex64
    np.testing.assert_allclose(out, oracle(x, "keller"), atol=AMPLIFIED)


def test_eps_damps_what_is_small_as_the_published_code_does(newton_schulz):
    x = gaussian(4, 6) * 1e-7
    out = newton_schulz(jnp.asarray(x, jnp.float32), eps=1e-7)
    np.testing.assert_allclose(out, oracle(x, "keller", eps=1e-7), atol=AMPLIFIED)
    assert np.abs(np.asarray(out) - oracle(x, "keller")).max() > 0.02


def test_steps_are_counted(newton_schulz):
    x = gaussian(4, 6)
    for steps in (1, 3, 7):
        expected = newton_schulz_loop(x, [(3.4445, -4.7750, 2.0315)] * steps)
        np.testing.assert_allclose(
            newton_schulz(jnp.asarray(x, jnp.float32), steps=steps), expected, atol=AMPLIFIED
        )


def test_jit_and_vmap_change_nothing(newton_schulz):
    x = jnp.asarray(gaussian(3, 4, 6), jnp.float32)
    plain = newton_schulz(x)
    np.testing.assert_allclose(jax.jit(newton_schulz)(x), plain, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(newton_schulz)(x), plain, atol=1e-5)


def test_a_wrong_schedule_is_refused(newton_schulz):
    with pytest.raises(ValueError, match="no schedule is called 'jordan'"):
        newton_schulz(jnp.zeros((2, 2)), "jordan")
    with pytest.raises(ValueError, match="'you' is made for 5 steps, got steps=4"):
        newton_schulz(jnp.zeros((2, 2)), "you", steps=4)


NORMS = {
    "frobenius": np.linalg.norm,
    "schatten4": lambda x: np.linalg.norm(x @ x.T) ** 0.5,
    "schatten8": lambda x: np.linalg.norm(x @ x.T @ x @ x.T) ** 0.25,
}


@pytest.mark.parametrize("normalizer", NORMS)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_normalizer_divides_by_its_norm(newton_schulz, normalizer, scale):
    x = gaussian(6, 9)
    keller = SCHEDULES["keller"].coefficients
    expected = through_svd(x, lambda s: scalar_map(keller, s), NORMS[normalizer])
    out = newton_schulz(jnp.asarray(scale * x, jnp.float32), normalizer=normalizer)
    np.testing.assert_allclose(out, expected, atol=AMPLIFIED)


@pytest.mark.parametrize("shape", [(5, 8), (8, 5)], ids=str)
def test_aol_divides_every_row_of_the_short_side_by_its_own_bound(newton_schulz, shape):
    x = gaussian(*shape)
    wide = x if shape[0] < shape[1] else x.T
    scaled = wide / np.sqrt(np.abs(wide @ wide.T).sum(axis=1, keepdims=True))
    assert np.linalg.norm(scaled, 2) <= 1
    turbo = SCHEDULES["turbo"].coefficients
    expected = through_svd(scaled, lambda s: scalar_map(turbo, s), lambda _: 1.0)
    out = newton_schulz(jnp.asarray(x, jnp.float32), "turbo")
    np.testing.assert_allclose(out if wide is x else out.T, expected, atol=AMPLIFIED)


def test_aol_makes_a_diagonal_matrix_its_signs(newton_schulz):
    out = newton_schulz(jnp.diag(jnp.array([5.0, -0.01, 300.0])), "turbo")
    np.testing.assert_allclose(np.diag(out), np.array([1, -1, 1]) * 0.9438268825, atol=1e-5)


def test_a_tighter_norm_is_worth_a_step(newton_schulz):
    x = with_spectrum(np.geomspace(1, 1e-3, 64), 64, 128)
    error = {
        normalizer: np.linalg.norm(
            np.linalg.svd(
                newton_schulz(jnp.asarray(x, jnp.float32), "you", normalizer=normalizer),
                compute_uv=False,
            )
            - 1
        )
        for normalizer in NORMS
    }
    assert error["schatten4"] < 0.8 * error["frobenius"]
    assert error["schatten8"] < 0.85 * error["schatten4"]
