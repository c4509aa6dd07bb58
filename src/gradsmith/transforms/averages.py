"""Moving averages, in the dtype of the average whatever the dtype of the new number."""

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Inexact, Int


def average(
    decay: ArrayLike, old: Inexact[Array, "*shape"], new: Inexact[Array | np.ndarray, "*shape"]
) -> Inexact[Array, "*shape"]:
    """Return `decay old + (1 - decay) new`."""
    decay = _below_one(decay, old.dtype)
    return decay * old + (1 - decay) * new.astype(old.dtype)


def debias(
    decay: ArrayLike, mean: Inexact[Array, "*shape"], count: Int[Array, ""]
) -> Inexact[Array, "*shape"]:
    """Return an average that started at zero, `count` numbers ago, as if it had started there."""
    return mean / (1 - _below_one(decay, mean.dtype) ** count.astype(mean.dtype))


def square(
    new: Inexact[Array | np.ndarray, "*shape"], like: Inexact[Array, "*shape"]
) -> Inexact[Array, "*shape"]:
    """Return the squared modulus, in the dtype of the average it goes into."""
    return jnp.square(jnp.abs(new.astype(like.dtype))).astype(like.dtype)


def _below_one(decay: ArrayLike, dtype: DTypeLike) -> Array:
    """Return the decay in the dtype of the average.

    An injected hyperparameter has the dtype of the parameters, and 0.999 in bfloat16 is 1, which
    neither learns nor can be debiased: it is taken for the largest number below.
    """
    decay = jnp.asarray(decay)
    if jnp.issubdtype(decay.dtype, jnp.floating):
        decay = jnp.minimum(decay, 1 - jnp.finfo(decay.dtype).epsneg)
    return decay.astype(dtype)
