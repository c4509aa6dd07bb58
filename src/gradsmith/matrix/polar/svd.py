"""The polar factor exactly, by a singular value decomposition."""

import jax.numpy as jnp
from jaxtyping import Array, Inexact, Shaped

from ...xla.arithmetic import matmul
from ..inputs import as_matrices


def svd_polar(x: Shaped[Array, "..."]) -> Inexact[Array, "*stack m n"]:
    """Return the polar factor `U V^H` of every matrix of `x`, on its numerical range.

    Singular values up to `max(m, n)` units of round-off of the largest count as zero and stay zero,
    as they do in every iterative method: the polar factor of a singular matrix is not unique, and
    an arbitrary completion is no direction to step in.

    Costs a full decomposition, some 20 times five Newton-Schulz steps and hardly parallel: for
    tests and small matrices.

    Args:
        x: Matrices `(m, n)`, any number of leading axes, real or complex. float16 and bfloat16
            are computed in float32.

    Returns:
        Matrices of the shape and dtype of `x`.

    Raises:
        ValueError: `x` is no matrix.
        TypeError: `x` has integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from gradsmith import matrix
        >>> print(matrix.svd_polar(jnp.diag(jnp.array([4.0, 3.0, 0.0]))))
        [[1. 0. 0.]
         [0. 1. 0.]
         [0. 0. 0.]]
    """
    computed = as_matrices(x, "svd_polar")
    if x.size == 0:
        return x
    u, s, vh = jnp.linalg.svd(computed, full_matrices=False)
    threshold = max(x.shape[-2:]) * jnp.finfo(s.dtype).eps * s[..., :1]
    kept = jnp.where(s <= threshold, 0.0, 1.0).astype(u.dtype)
    return matmul(u * kept[..., None, :], vh).astype(x.dtype)
