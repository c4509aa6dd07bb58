"""What an arithmetic rounds, by which name it is asked for, and what refuses it."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from matrix_oracles import gaussian, unchecked_annotations

import gradsmith as gs
from gradsmith.xla.arithmetic import FULL, adjoint_times, arithmetics, matmul, times_adjoint


def in_tfloat32(x):
    """Round to 10 bits of mantissa, ties to even, in the bits of float32."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0xFFF + ((bits >> 13) & 1)) & 0xFFFFE000
    return bits.astype(np.uint32).view(np.float32)


ROUNDED = {
    "bfloat16": lambda x: x.astype(ml_dtypes.bfloat16).astype(np.float32),
    "float16": lambda x: x.astype(np.float16).astype(np.float32),
    "tfloat32": in_tfloat32,
}
X = np.asarray(gaussian(7, 9) * np.geomspace(1e-7, 1e3, 9), np.float32)  # some subnormal halves
Y = np.asarray(gaussian(9, 5, seed=1), np.float32)


def only(precision):
    (arithmetic,) = arithmetics(precision)
    return arithmetic


@pytest.mark.parametrize("name", ROUNDED)
def test_operands_are_rounded_and_sums_are_not(name):
    x, y = ROUNDED[name](X).astype(np.float64), ROUNDED[name](Y).astype(np.float64)
    for product, a, b in (
        (matmul, X, Y),
        (times_adjoint, X, Y.T),
        (adjoint_times, X.T, Y),
    ):
        got = jax.jit(lambda a, b, p=product: p(a, b, only(name)))(a, b)
        scale = np.abs(x) @ np.abs(y)
        assert (np.abs(np.asarray(got, np.float64) - x @ y) / scale).max() < 2.0**-22
        assert (np.abs(np.asarray(got, np.float64) - X.astype(float) @ Y) / scale).max() > 2.0**-16


@pytest.mark.parametrize("name", [*ROUNDED, "bfloat16_3x"])
def test_round_off_is_the_largest_error_of_an_operand(name):
    x = np.float32(1 + np.random.default_rng(0).random(100_000))
    got = np.asarray(matmul(jnp.asarray(x)[:, None], jnp.ones((1, 1)), only(name)))[:, 0]
    error = np.abs(got.astype(float) / x - 1).max()
    assert error <= only(name).round_off(jnp.float32) * 1.01
    assert error >= only(name).round_off(jnp.float32) / 4


def test_three_passes_are_two_parts_without_their_smallest_product():
    split = lambda x: (hi := ROUNDED["bfloat16"](x), ROUNDED["bfloat16"](x - hi))
    (a, b), (c, d) = (tuple(part.astype(float) for part in split(x)) for x in (X, Y))
    got = np.asarray(matmul(jnp.asarray(X), jnp.asarray(Y), only("bfloat16_3x")), float)
    scale = np.abs(X.astype(float)) @ np.abs(Y)
    assert (np.abs(got - (a @ c + a @ d + b @ c)) / scale).max() < 2.0**-22
    assert (np.abs(got - X.astype(float) @ Y) / scale).max() < 2.0**-15


def test_a_product_that_is_told_nothing_is_full():
    assert FULL.full
    text = jax.jit(matmul).lower(X, Y).as_text()
    assert "precision = [HIGHEST, HIGHEST]" in text
    assert "reduce_precision" not in text


def test_the_first_of_a_target_is_the_fastest():
    for target, first in (("cpu", "float32"), ("gpu", "bfloat16"), ("tpu", "bfloat16")):
        with gs.target(target):
            there = arithmetics()
            assert next(iter(there)).name == first
            assert min(there.values()) == next(iter(there.values())) == 1.0
            assert FULL in there


def test_what_a_target_lacks_is_refused_with_what_it_has():
    with (
        gs.target("tpu"),
        pytest.raises(
            ValueError, match=r"tpu multiplies in; it has bfloat16, bfloat16_3x, float32\. Omit"
        ),
    ):
        arithmetics("tfloat32")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "half"}, "no precision is called 'half'; there are float32, bfloat16"),
        (
            {"precision": "bfloat16", "method": "halley"},
            "'halley' needs float32: its inverses lose",
        ),
        ({"precision": "float16", "method": "svd"}, "'svd' needs float32: a decomposition is"),
        ({"precision": "bfloat16", "max_error": 1e-3}, "nothing comes within 0.001 of 1 in bfloat"),
    ],
    ids=str,
)
def test_what_cannot_be_kept_is_refused(arguments, message):
    with unchecked_annotations(), pytest.raises(ValueError, match=message):
        gs.matrix.orthogonalize(jnp.ones((2, 3)), **arguments)


@pytest.mark.parametrize("build", [gs.muon, gs.normuon, gs.mars_muon], ids=lambda f: f.__name__)
def test_a_recipe_refuses_when_it_is_built_or_initialized(build):
    with unchecked_annotations(), pytest.raises(ValueError, match="no precision is called 'half'"):
        build(0.1, precision="half").init({"kernel": jnp.ones((2, 3))})
    with gs.target("tpu"), pytest.raises(ValueError, match="tpu multiplies in; it has"):
        build(0.1, precision="float16").init({"kernel": jnp.ones((2, 3))})


@pytest.mark.parametrize("dtype", [jnp.complex64, jnp.float64])
def test_a_named_precision_is_for_real_float32(dtype):
    with jax.enable_x64(True):
        x = jnp.ones((2, 3), dtype)
        with pytest.raises(ValueError, match=f"and these are {jnp.dtype(dtype).name}; omit it"):
            gs.matrix.orthogonalize(x, precision="bfloat16")
        np.testing.assert_array_equal(
            gs.matrix.orthogonalize(x, precision="float32"), gs.matrix.orthogonalize(x)
        )
