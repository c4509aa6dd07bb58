"""Moving averages, in the dtype of the average; new numbers may have another one."""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Inexact, Int


def average(
    decay: ArrayLike, old: Inexact[Array, "*shape"], new: Inexact[Array | np.ndarray, "*shape"]
) -> Inexact[Array, "*shape"]:
    """Return `decay old + (1 - decay) new`."""
    decay = below_one(decay, old.dtype)
    return decay * old + (1 - decay) * new.astype(old.dtype)


def debias(
    decay: ArrayLike, mean: Inexact[Array, "*shape"], count: Int[Array, ""]
) -> Inexact[Array, "*shape"]:
    """Return an average that started at zero, `count` numbers ago, as if it had started there."""
    return mean / (1 - below_one(decay, mean.dtype) ** count.astype(mean.dtype))


def square(
    new: Inexact[Array | np.ndarray, "*shape"], like: Inexact[Array, "*shape"]
) -> Inexact[Array, "*shape"]:
    """Return the squared modulus, in the dtype of the average it goes into."""
    return jnp.square(jnp.abs(new.astype(like.dtype))).astype(like.dtype)


def root(x: Inexact[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """Return the square root of a sum of squares, whose derivative at zero is not infinite.

    There the square has derivative zero, and zero times infinity would be NaN: for a row of an
    embedding that no token asked for, or a block that is filled up. Written in plain arithmetic,
    which works on any mesh.
    """
    is_zero = (x == 0).astype(x.dtype)
    return jnp.sqrt(x + is_zero) - is_zero


def below_one(decay: ArrayLike, dtype: DTypeLike) -> Array:
    """Return the decay in the dtype of the average.

    `optax.inject_hyperparams` rounds numbers to the dtype of the parameters. 0.999 is then 1 in
    bfloat16, and an average with that decay neither learns nor can be debiased. So 1 is taken for
    the largest number below it, in bfloat16 0.996. To keep 0.999, inject with
    `hyperparam_dtype=jnp.float32`.
    """
    decay = jnp.asarray(decay)
    if jnp.issubdtype(decay.dtype, jnp.floating):
        decay = jnp.minimum(decay, 1 - jnp.finfo(decay.dtype).epsneg)
    return decay.astype(dtype)
