"""What every method asks of its input."""

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Inexact, Shaped


def as_matrices(x: Shaped[Array, "..."], method: str) -> Inexact[Array, "*stack m n"]:
    """Return `x` in the dtype to compute in: its own, or float32 where that is narrower.

    Raises:
        ValueError: `x` is no stack of matrices.
        TypeError: `x` has integers or booleans.
    """
    check_matrices(x.shape, x.dtype, method)
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def check_matrices(shape: tuple[int, ...], dtype: DTypeLike, method: str) -> None:
    """Refuse what is no stack of matrices, as `as_matrices` does."""
    if len(shape) < 2:
        raise ValueError(
            f"{method} takes matrices (..., m, n), got an array of shape {shape}; give vectors "
            f"to another optimizer, or make a matrix of one: x[None, :]"
        )
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise TypeError(
            f"{method} takes real or complex floating-point matrices, got {jnp.dtype(dtype)}; "
            f"convert them first: x.astype(jnp.float32)"
        )
