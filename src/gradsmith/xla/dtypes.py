"""Which dtype to compute in, whatever promotion the user has set."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def common_dtype(*dtypes: DTypeLike) -> jnp.dtype:
    """Return the dtype that holds all of these; strict promotion would refuse to name it."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.dtype(functools.reduce(jnp.promote_types, dtypes))


def wide_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Return `dtype`, or float32 where it is narrower: averages need the digits."""
    return common_dtype(dtype, jnp.float32)
