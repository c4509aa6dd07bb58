"""The one door: every method through it, and what it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest
from matrix_oracles import gaussian, unchecked_annotations

from gradsmith import matrix


def test_each_method_is_the_function_of_its_name():
    x = jnp.asarray(gaussian(2, 4, 6), jnp.float32)
    np.testing.assert_array_equal(matrix.orthogonalize(x), matrix.newton_schulz(x))
    np.testing.assert_array_equal(matrix.orthogonalize(x, "svd"), matrix.svd_polar(x))


def test_arguments_reach_the_method():
    x = jnp.asarray(gaussian(4, 6), jnp.float32)
    np.testing.assert_array_equal(
        matrix.orthogonalize(x, coefficients="you"), matrix.newton_schulz(x, "you")
    )
    np.testing.assert_array_equal(
        matrix.orthogonalize(x, steps=3, eps=1.0), matrix.newton_schulz(x, steps=3, eps=1.0)
    )


@pytest.mark.parametrize("method", ["newton_schulz", "svd"])
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


def test_an_unknown_method_is_refused():
    unknown = pytest.raises(ValueError, match="no method is called 'cholesky'; there are")
    with unchecked_annotations(), unknown:
        matrix.orthogonalize(jnp.zeros((2, 2)), "cholesky")  # pyright: ignore[reportArgumentType]
