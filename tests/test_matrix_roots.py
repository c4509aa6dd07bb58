import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrix_oracles import assert_derivative_is_a_difference, gaussian

from gradsmith import matrix


def with_eigenvalues(values, seed=0):
    q = np.linalg.qr(gaussian(len(values), len(values), seed=seed))[0]
    return lambda function: (q * function(np.asarray(values))) @ q.T


@pytest.mark.parametrize("method", ["eigh", "newton"])
@pytest.mark.parametrize("p", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20])
def test_the_inverse_root_is_the_power_of_the_eigenvalues(method, p, scale):
    """At a condition of 100 both are good to 100 / p units of float32 round-off, some 1e-5."""
    of = with_eigenvalues([1.0, 0.5, 0.1, 0.01])
    root = matrix.inverse_root(
        jnp.asarray(scale * of(lambda v: v), jnp.float32), p, method, eps=0.0
    )
    expected = of(lambda v: v ** (-1 / p)) * scale ** (-1 / p)
    np.testing.assert_allclose(root, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("method", "norm"), [("eigh", 2), ("newton", "fro")])
def test_the_ridge_is_relative_to_the_norm_of_the_method(method, norm):
    with jax.enable_x64(True):
        of = with_eigenvalues([3.0, 1.0, 0.0])
        a = of(lambda v: v)
        root = matrix.inverse_root(jnp.asarray(a), 2, method, eps=1e-3)
        ridge = 1e-3 * np.linalg.norm(a, norm)
        np.testing.assert_allclose(root, of(lambda v: (v + ridge) ** -0.5), rtol=1e-9)


@pytest.mark.parametrize("method", ["eigh", "newton"])
@pytest.mark.parametrize("p", [1, 2, 3, 4])
@pytest.mark.parametrize("values", [[1.0, 0.5, 0.5, 0.5], [3e-20, 2e-20, 1e-22, 1e-22]], ids=str)
def test_derivatives_exist_where_eigenvalues_are_equal(method, p, values):
    with jax.enable_x64(True):
        size = values[0]
        of = jnp.asarray(with_eigenvalues(values)(lambda v: v) / size)
        root = lambda a: (
            matrix.inverse_root(size * (a + a.T) / 2, p, method, eps=0.125) * size ** (1 / p)
        )
        assert_derivative_is_a_difference(root, of, jnp.asarray(gaussian(4, 4, seed=1)))
        of_eps = lambda eps: matrix.inverse_root(of, p, method, eps=eps)
        assert_derivative_is_a_difference(of_eps, jnp.asarray(0.125), jnp.asarray(1.0))
        zero = jax.jacobian(lambda a: matrix.inverse_root(a, p, method))(jnp.zeros((3, 3)))
        assert not zero.any()


@pytest.mark.parametrize("method", ["eigh", "newton"])
def test_the_root_of_zero_is_zero_and_a_nan_stays_in_its_matrix(method):
    a = np.stack([np.zeros((3, 3)), np.eye(3), np.full((3, 3), np.nan)])
    root = np.asarray(matrix.inverse_root(jnp.asarray(a, jnp.float32), 4, method))
    np.testing.assert_array_equal(root[0], 0)
    np.testing.assert_allclose(root[1], np.eye(3), atol=1e-5)
    assert np.isnan(root[2]).all()


def test_a_singular_matrix_has_a_finite_root_in_float32():
    """Round-off leaves eigenvalues of about -1e-7; the ridge is counted from the lowest."""
    x = gaussian(8, 2)
    for method in ("eigh", "newton"):
        root = matrix.inverse_root(jnp.asarray(x @ x.T, jnp.float32), 4, method)
        assert np.isfinite(root).all()


def test_newton_never_decomposes():
    text = str(jax.make_jaxpr(lambda a: matrix.inverse_root(a, 4, "newton"))(jnp.eye(3)))
    assert "eigh" not in text


def test_complex_matrices_have_hermitian_roots():
    x = gaussian(4, 4) + 1j * gaussian(4, 4, seed=1)
    a = x @ x.conj().T
    for method in ("eigh", "newton"):
        root = np.asarray(matrix.inverse_root(jnp.asarray(a, jnp.complex64), 2, method, eps=0.0))
        np.testing.assert_allclose(root @ a @ root, np.eye(4), atol=1e-3)


def test_a_root_below_the_first_is_refused():
    with pytest.raises(ValueError, match="inverse_root needs p >= 1, got 0"):
        matrix.inverse_root(jnp.eye(2), 0)
