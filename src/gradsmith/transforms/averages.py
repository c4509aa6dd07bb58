"""Moving averages, in the dtype of the average whatever the dtype of the new number."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact, Int


def average(
    decay: ArrayLike, old: Inexact[Array, "*shape"], new: Inexact[Array, "*shape"]
) -> Inexact[Array, "*shape"]:
    """Return `decay old + (1 - decay) new`."""
    decay = jnp.asarray(decay, old.dtype)
    return decay * old + (1 - decay) * new.astype(old.dtype)


def debias(
    decay: ArrayLike, mean: Inexact[Array, "*shape"], count: Int[Array, ""]
) -> Inexact[Array, "*shape"]:
    """Return an average that started at zero, `count` numbers ago, as if it had started there."""
    return mean / (1 - jnp.asarray(decay, mean.dtype) ** count.astype(mean.dtype))


def square(
    new: Inexact[Array, "*shape"], like: Inexact[Array, "*shape"]
) -> Inexact[Array, "*shape"]:
    """Return the squared modulus, in the dtype of the average it goes into."""
    return jnp.square(jnp.abs(new.astype(like.dtype))).astype(like.dtype)
