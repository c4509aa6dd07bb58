"""What is computed when."""

import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int

from .targets import current_target


def after(turn: int | Int[Array, ""], result: Inexact[Array, "..."]) -> Int[Array, ""]:
    """Return `turn`, which is at least zero, once `result` is there.

    What depends on it then comes later than `result`. XLA on CPUs orders a program so that much of
    it can run at the same time, and has all of that in memory. It cannot know that nothing in
    `result` changes a maximum with what is at most zero; nor does it compute the maximum of several
    numbers again wherever one is used, as it would a single one.
    """
    turn = jnp.asarray(turn, jnp.int32)
    if not current_target().forces_order or result.size == 0:
        return turn
    some = result.real.ravel()[:8].astype(jnp.int32)
    return jnp.max(jnp.maximum(turn, jnp.minimum(some, 0)))
