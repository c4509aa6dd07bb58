import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrix_oracles import assert_derivative_is_a_difference, gaussian

from gradsmith import matrix

ATOL = 2e-5


def symmetric(spectrum, seed=0):
    q = np.linalg.qr(gaussian(len(spectrum), len(spectrum), seed=seed))[0]
    return q, (q * spectrum) @ q.T


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
def test_a_followed_basis_has_a_derivative(method):
    with jax.enable_x64(True):
        basis, a = symmetric(np.array([5.0, 1.0, 3.0]))
        follow = lambda x: matrix.follow_basis(x @ x.T, jnp.asarray(basis), method)[0]
        assert_derivative_is_a_difference(follow, jnp.asarray(a), jnp.asarray(gaussian(3, 3)))


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
