"""What is computed when, where XLA has to be told."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int

from .targets import current_target


def known_after(number: int | Int[Array, ""], result: Inexact[Array, "..."]) -> Int[Array, ""]:
    """Return `number`, which is at least zero, such that it is known only after `result` is.

    What depends on it, a slice that begins there, is then computed after `result`. It holds where
    `forces_order` of the target is true; elsewhere this is `number` alone.

    XLA for CPUs orders a program so that much of it can run at the same time, and keeps all of that
    in memory. It removes `lax.optimization_barrier` before it orders. So this is a dependence that
    XLA cannot remove: only we know that a maximum with what is at most zero is `number` again,
    whatever `result` is. It is a reduction of several numbers, because XLA would compute a single
    one again wherever it is used.

    Under `jax.vmap` the number stays one number, known after all results of the batch.
    """
    number = jnp.asarray(number, jnp.int32)
    if not current_target().forces_order or result.size == 0:
        return number
    return _maximum(number, result.real.ravel()[:8].astype(jnp.int32))


@jax.custom_batching.custom_vmap
def _maximum(number: Int[Array, ""], some: Int[Array, " n"]) -> Int[Array, ""]:
    return jnp.max(jnp.maximum(number, jnp.minimum(some, 0)))


@_maximum.def_vmap
def _(axis_size, batched, number, some):
    del axis_size
    if batched[0]:
        return jax.vmap(_maximum.fun, (0, 0 if batched[1] else None))(number, some), True
    return _maximum(number, some.ravel()), False
