"""The one door: every method through it, what it chooses, what it explains, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrix_oracles import gaussian, hard_stack, reached, unchecked_annotations

import gradsmith as gs
from gradsmith import matrix
from gradsmith.matrix.inverse import inverse
from gradsmith.matrix.polar.plan import Request

SQUARE = jax.ShapeDtypeStruct((64, 64), jnp.float32)
WIDE = jax.ShapeDtypeStruct((64, 256), jnp.float32)
LARGE = jax.ShapeDtypeStruct((768, 3072), jnp.float32)


def test_each_method_is_the_function_of_its_name():
    x = jnp.asarray(gaussian(2, 4, 6), jnp.float32)
    for name, function in {
        "newton_schulz": matrix.newton_schulz,
        "zolotarev": matrix.zolotarev,
        "halley": matrix.halley,
        "svd": matrix.svd_polar,
    }.items():
        np.testing.assert_array_equal(matrix.orthogonalize(x, name), function(x))


def test_the_default_is_kellers_in_the_cheaper_form():
    square = jnp.asarray(gaussian(6, 6), jnp.float32)
    np.testing.assert_array_equal(matrix.orthogonalize(square), matrix.newton_schulz(square))
    wide = jnp.asarray(gaussian(6, 24), jnp.float32)
    np.testing.assert_array_equal(matrix.orthogonalize(wide), matrix.gram_newton_schulz(wide))
    np.testing.assert_array_equal(matrix.orthogonalize(wide.mT), matrix.gram_newton_schulz(wide.mT))


def test_arguments_reach_the_method():
    x = jnp.asarray(gaussian(4, 6), jnp.float32)
    for arguments in (
        {"coefficients": "you"},
        {"steps": 3, "eps": 1.0},
        {"normalizer": "schatten4"},
    ):
        np.testing.assert_allclose(
            matrix.orthogonalize(x, **arguments), matrix.newton_schulz(x, **arguments), atol=1e-5
        )


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (2, 0, 4)], ids=str)
@pytest.mark.parametrize("arguments", [{}, {"max_error": 0.3}, {"precision": "bfloat16"}], ids=str)
def test_an_empty_matrix_stays_empty(arguments, shape):
    assert matrix.orthogonalize(jnp.zeros(shape), **arguments).shape == shape


@pytest.mark.parametrize("max_error", [0.5, 0.32, 0.1, 0.03, 0.01, 1e-3, 2e-5])
def test_max_error_is_kept_on_hostile_spectra(max_error):
    for shape in ((32, 64), (100, 100)):
        x = hard_stack(*shape)
        out = matrix.orthogonalize(jnp.asarray(x, jnp.float32), max_error=max_error)
        for values in reached(x, out, above=1.5e-3):
            assert np.abs(values - 1).max() <= max_error


def test_max_error_in_float64():
    with jax.enable_x64(True):
        x = hard_stack(24, 30)
        out = matrix.orthogonalize(jnp.asarray(x), max_error=1e-9)
        for values in reached(x, out, above=1.5e-3):
            assert np.abs(values - 1).max() <= 1e-9


@pytest.mark.parametrize(
    ("x", "arguments", "method"),
    [
        (SQUARE, {}, "newton_schulz"),
        (WIDE, {}, "gram_newton_schulz"),
        (SQUARE, {"max_error": 0.32}, "newton_schulz"),
        (LARGE, {"max_error": 0.32}, "zolotarev"),
        (LARGE, {"max_error": 0.1}, "halley"),
        (LARGE, {"max_error": 0.01}, "gram_newton_schulz"),
        (LARGE, {"max_error": 1e-4}, "svd"),
    ],
    ids=str,
)
def test_explain_says_what_is_done(x, arguments, method):
    plan = matrix.explain(x, **arguments)
    assert plan.method == method
    assert method in str(plan)
    if arguments:
        assert plan.error is not None
        assert plan.error <= arguments["max_error"]
        assert str(arguments["max_error"]) in plan.why


def test_a_shape_is_explained_as_float32_and_no_shape_of_a_matrix_is_refused():
    assert str(matrix.explain((64, 32))) == str(matrix.explain(jnp.zeros((64, 32))))
    with pytest.raises(ValueError, match=r"explain takes matrices .*, got an array of .*\(3,\)"):
        matrix.explain((3,))


@pytest.mark.parametrize("of", [np.float32, np.float64, np.array, jnp.asarray, float])
def test_an_eps_may_be_a_number_of_numpy(of):
    x = jnp.asarray(gaussian(6, 9), jnp.float32)
    for run in (matrix.newton_schulz, matrix.gram_newton_schulz, matrix.orthogonalize):
        np.testing.assert_array_equal(run(x, eps=of(0.5)), run(x, eps=0.5))
    a = x @ x.T
    for method in ("eigh", "newton"):
        out = matrix.inverse_root(a, 2, method, eps=of(0.5))
        np.testing.assert_array_equal(out, matrix.inverse_root(a, 2, method, eps=0.5))
    np.testing.assert_array_equal(inverse(a, of(1e-3)), inverse(a, 1e-3))


def test_flops_are_those_of_the_compiled_program():
    for method, x in (
        ("newton_schulz", jnp.ones((128, 128))),
        ("newton_schulz", jnp.ones((128, 512))),
        ("newton_schulz", jnp.ones((512, 768))),
    ):
        compiled = jax.jit(matrix.orthogonalize, static_argnums=1).lower(x, method).compile()
        analysis = compiled.cost_analysis()
        assert analysis is not None
        counted = analysis["flops"]
        # The program also has element-wise work.
        assert 0.98 <= counted / matrix.explain(x, method).flops <= 1.05


METHODS = ["newton_schulz", "zolotarev", "halley", "svd"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (jnp.zeros(3), ValueError, r"matrices \(\.\.\., m, n\), got an array of shape \(3,\)"),
        (jnp.zeros((2, 3), jnp.int32), TypeError, r"got int32; convert them first"),
    ],
    ids=["vector", "integers"],
)
def test_what_is_no_matrix_is_refused(method, x, error, message):
    with pytest.raises(error, match=message):
        matrix.orthogonalize(x, method)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "cholesky"}, "no method is called 'cholesky'; there are newton_schulz"),
        ({"coefficients": "jordan"}, "no schedule is called 'jordan'"),
        ({"coefficients": "you", "steps": 4}, "'you' is made for 5 steps"),
        ({"normalizer": "spectral"}, "no normalizer is called 'spectral'"),
        ({"method": "svd", "coefficients": "you"}, "coefficients belongs to 'newton_schulz'"),
        ({"method": "svd", "max_error": 0.1}, "chooses the method itself; omit method"),
        ({"coefficients": "you", "max_error": 0.1}, "omit coefficients, or omit max_error"),
        ({"max_error": 0.0}, "max_error is between 0 and 1, got 0.0"),
        ({"max_error": 1e-9}, "nothing comes within 1e-09 of 1 in float32"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with unchecked_annotations(), pytest.raises(ValueError, match=message):
        matrix.orthogonalize(jnp.zeros((2, 2)), **arguments)


def test_only_functions_of_the_gram_matrix_are_planned_from_it():
    for max_error in (0.5, 0.32, 0.1, 0.03):
        for n in (8, 64, 512):
            plan = Request(max_error=max_error).plan(n, n, jnp.float32, from_gram=True)
            assert plan.factor() is not None
    for request in (Request("svd"), Request(steps=12)):
        with pytest.raises(ValueError, match="on Gram matrices"):
            request.plan(64, 64, jnp.float32, from_gram=True)


@pytest.mark.parametrize(
    "tx",
    [
        gs.muon(0.1, max_error=1e-6),
        gs.orthogonalize(max_error=1e-6),
        gs.per_stack(gs.polar_factor(max_error=1e-6)),
    ],
    ids=["muon", "orthogonalize", "polar_factor"],
)
def test_what_nothing_keeps_is_refused_at_init(tx):
    with pytest.raises(ValueError, match="nothing comes within 1e-06 of 1 in float32"):
        tx.init({"w": jnp.ones((64, 32))})


def test_a_plan_tells_its_band_and_on_a_named_device_its_cycles():
    keller = matrix.explain((64, 256))
    assert "band 0.47 to 1.2" in str(keller)
    assert keller.cycles is None
    assert "band" not in str(matrix.explain((64, 256), steps=6))  # that of five steps is another
    with gs.target("tpu v5e"):
        narrow = matrix.explain((64, 256))
        full = matrix.explain((64, 256), precision="float32")
    assert narrow.cycles == narrow.flops / 131072
    assert full.cycles == pytest.approx(4.4 * full.flops / 131072)
    assert "million cycles" in str(narrow)
