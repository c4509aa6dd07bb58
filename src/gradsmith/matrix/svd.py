"""The polar factor exactly, by a singular value decomposition."""

import jax.numpy as jnp
from jaxtyping import Array, Inexact


def svd_polar(x: Inexact[Array, "*stack m n"]) -> Inexact[Array, "*stack m n"]:
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

    Examples:
        >>> import jax.numpy as jnp
        >>> from gradsmith import matrix
        >>> print(matrix.svd_polar(jnp.diag(jnp.array([4.0, 3.0, 0.0]))))
        [[1. 0. 0.]
         [0. 1. 0.]
         [0. 0. 0.]]
    """
    if x.size == 0:
        return x
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    u, s, vh = jnp.linalg.svd(x.astype(dtype), full_matrices=False)
    threshold = max(x.shape[-2:]) * jnp.finfo(dtype).eps * s[..., :1]
    in_range = (s > threshold).astype(dtype)
    return ((u * in_range[..., None, :]) @ vh).astype(x.dtype)
