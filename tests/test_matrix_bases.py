import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrix_oracles import gaussian

from gradsmith import matrix

# Householder's Q is orthogonal to a modest multiple of round-off, here 1.2e-7 times 130.
ATOL = 2e-5


def symmetric(spectrum, seed=0):
    q = np.linalg.qr(gaussian(len(spectrum), len(spectrum), seed=seed))[0]
    return q, (q * spectrum) @ q.T


@pytest.mark.parametrize("n", [1, 2, 5, 130, 700], ids=str)
def test_orthonormal_is_the_q_of_numpys_qr(n):
    """130 is more than one panel, and no multiple of it; 700 takes loops of several panels."""
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


def test_the_basis_of_a_permuted_diagonal_is_the_permutation_exactly():
    a = np.zeros((3, 3), np.float32)
    a[[2, 0, 1], [0, 1, 2]] = [0.1, 0.7, 0.3]
    np.testing.assert_array_equal(np.abs(matrix.orthonormal(jnp.asarray(a))), a > 0)


def test_a_nan_stays_in_its_matrix():
    a = np.stack([gaussian(4, 4), np.full((4, 4), np.nan)])
    q = matrix.orthonormal(jnp.asarray(a, jnp.float32))
    assert np.isfinite(q[0]).all()
    assert np.isnan(q[1]).any()


def test_following_converges_to_the_eigenbasis_at_the_rate_of_the_gap():
    with jax.enable_x64(True):
        exact, a = symmetric(np.array([8.0, 4.0, 2.0, 1.0]))
        basis, errors, follow = jnp.eye(4, dtype=jnp.float64), [], jax.jit(matrix.follow_basis)
        for _ in range(20):
            basis, _ = follow(jnp.asarray(a), basis)
            errors.append(np.abs(np.abs(exact.T @ basis) - np.eye(4)).max())
    assert errors[-1] < 1e-5
    np.testing.assert_allclose(errors[-1] / errors[-3], 0.25, rtol=0.1)  # (1 / 2)^2


@pytest.mark.parametrize("method", ["qr", "eigh"])
def test_the_eigenbasis_stays_and_its_columns_are_sorted(method):
    exact, a = symmetric(np.array([5.0, 1.0, 3.0]))
    basis, order = matrix.follow_basis(
        jnp.asarray(a, jnp.float32), jnp.asarray(exact, jnp.float32), method
    )
    np.testing.assert_array_equal(order, [0, 2, 1])
    np.testing.assert_allclose(np.abs(exact[:, [0, 2, 1]].T @ basis), np.eye(3), atol=ATOL)


def test_following_by_qr_never_decomposes():
    a = jnp.eye(3)
    follow = lambda method: str(jax.make_jaxpr(lambda a: matrix.follow_basis(a, a, method))(a))
    assert "eigh" not in follow("qr")
    assert "eigh" in follow("eigh")


def test_stacks_go_to_lapack_one_by_one():
    """Two batched calls at a time take the threads that each waits for, in JAX 0.10 on CPUs."""
    jaxpr = str(jax.make_jaxpr(matrix.orthonormal)(jnp.zeros((3, 700, 700))))
    assert "geqrf" in jaxpr
    assert "f32[3,700,192]" not in jaxpr
    assert "scan" in jaxpr
