import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrix_oracles import gaussian
from overridden import overridden

from gradsmith import matrix

# Householder's Q is orthogonal to a modest multiple of round-off, here 1.2e-7 times 130.
ATOL = 2e-5


@pytest.fixture(params=["products", "library"], autouse=True)
def _both_ways(request):
    with overridden(qr_by_library=request.param == "library"):
        yield


@pytest.mark.parametrize("n", [1, 2, 5, 16, 17, 70, 256, 700], ids=str)
def test_orthonormal_is_the_q_of_numpys_qr(n):
    """Below, at and above the widths of pieces, and one that takes three blocks."""
    a = gaussian(2, n, n)
    q = np.asarray(matrix.orthonormal(jnp.asarray(a, jnp.float32)))
    theirs = np.linalg.qr(a)[0]
    signs = np.sign(np.sum(q * theirs, axis=1, keepdims=True))
    # A column is as uncertain as the matrix of those before it is close to singular.
    np.testing.assert_allclose(q * signs, theirs, atol=1e-2 if n > 5 else ATOL)
    np.testing.assert_allclose(q.mT @ q, np.broadcast_to(np.eye(n), q.shape), atol=ATOL)
    assert np.abs(np.tril(q.mT @ a, -1)).max() < ATOL * np.abs(a).max()


@pytest.mark.parametrize(
    "a",
    [
        np.zeros((6, 6)),
        np.outer(np.arange(6.0), np.ones(6)),
        1e-30 * gaussian(6, 6),
        1e30 * gaussian(6, 6),
        np.diag([1.0, 0.0, 1e-20, 0.0, 1.0, 1.0]),
        gaussian(6, 6) + 1j * gaussian(6, 6, seed=1),
    ],
    ids=["zero", "rank one", "tiny", "huge", "diagonal", "complex"],
)
def test_orthonormal_columns_are_orthonormal_whatever_the_matrix(a):
    a = jnp.asarray(a, jnp.complex64 if np.iscomplexobj(a) else jnp.float32)
    q = matrix.orthonormal(a)
    np.testing.assert_allclose(q.conj().T @ q, np.eye(6), atol=ATOL)
    largest = float(jnp.abs(a).max())
    lower = np.tril(np.asarray(q.conj().T) @ (np.asarray(a) / max(largest, 1e-38)), -1)
    np.testing.assert_allclose(lower, 0, atol=ATOL)


@pytest.mark.parametrize(
    "singular_values",
    [np.geomspace(1, 1e-12, 300), np.r_[np.ones(3), np.zeros(297)]],
    ids=["1 ... 1e-12", "rank 3"],
)
def test_columns_that_nearly_depend_on_each_other_are_orthonormal_and_span_the_matrix(
    singular_values,
):
    """They are in one piece and in several, and in two blocks."""
    left, right = (np.linalg.qr(gaussian(300, 300, seed=seed))[0] for seed in (0, 1))
    a = (left * singular_values) @ right
    q = np.asarray(matrix.orthonormal(jnp.asarray(a, jnp.float32)), np.float64)
    np.testing.assert_allclose(q.T @ q, np.eye(300), atol=ATOL)
    np.testing.assert_allclose(np.tril(q.T @ a, -1), 0, atol=1e-6)


def test_the_basis_of_a_permuted_diagonal_is_the_permutation_exactly():
    a = np.zeros((3, 3), np.float32)
    a[[2, 0, 1], [0, 1, 2]] = [0.1, 0.7, 0.3]
    np.testing.assert_array_equal(np.abs(matrix.orthonormal(jnp.asarray(a))), a > 0)


def test_a_nan_stays_in_its_matrix():
    a = np.stack([gaussian(4, 4), np.full((4, 4), np.nan)])
    q = matrix.orthonormal(jnp.asarray(a, jnp.float32))
    assert np.isfinite(q[0]).all()
    assert np.isnan(q[1]).any()


def test_no_matrix_is_no_matrix():
    assert matrix.orthonormal(jnp.zeros((2, 0, 0))).shape == (2, 0, 0)
    assert matrix.orthonormal(jnp.zeros((0, 3, 3))).shape == (0, 3, 3)


def test_no_call_of_lapack():
    """Its threads would wait beside XLA's, and two batched calls at a time for each other."""
    with overridden(qr_by_library=False):
        jaxpr = str(jax.make_jaxpr(matrix.orthonormal)(jnp.zeros((3, 700, 700))))
    assert "dot_general" in jaxpr
    for primitive in ("geqrf", "householder_product", "triangular_solve", "cholesky"):
        assert primitive not in jaxpr


@pytest.mark.parametrize("imaginary", [0.0, 1j], ids=["real", "complex"])
def test_the_derivative_is_that_of_differences(imaginary):
    a = gaussian(2, 9, 9) + imaginary * gaussian(2, 9, 9, seed=1)
    moved = gaussian(2, 9, 9, seed=2) + imaginary * gaussian(2, 9, 9, seed=3)
    with jax.enable_x64(True):
        q, tangent = jax.jvp(matrix.orthonormal, (jnp.asarray(a),), (jnp.asarray(moved),))
        step = 1e-6
        ahead, behind = (matrix.orthonormal(jnp.asarray(a + by * moved)) for by in (step, -step))
        np.testing.assert_allclose(tangent, (ahead - behind) / (2 * step), atol=1e-6)
    assert np.abs(q).max() <= 1


def test_the_derivative_of_a_matrix_of_low_rank_is_finite():
    a = np.outer(np.arange(6.0), np.ones(6))
    for f in (matrix.orthonormal, jax.vmap(matrix.orthonormal)):
        x = jnp.asarray(a if f is matrix.orthonormal else a[None], jnp.float32)
        assert np.isfinite(jax.grad(lambda x, f=f: jnp.sum(f(x)[..., 0]))(x)).all()
