"""Numbers at the ends of the range, and numbers of little precision."""

import jax
import jax.numpy as jnp

from ..bench import Bench, cast, fail_if_not_finite, fail_if_unlike
from ..registry import check
from .contract import fail_if_state_changes


@check(
    needs=("core_runs", "updates_like_params", "state_stable"),
    call="print(tx.update(optax.tree.zeros_like(p), s, p))",
    cause="a division by a norm, or by the root of a second moment, that is zero",
    change="add eps to the denominator, or use jnp.where on both the argument and the result",
)
def check_zero_grads(bench: Bench) -> None:
    """After three steps with zero gradients and one normal step everything is finite.

    A layer that is unused or not yet reached has a gradient of exactly zero.
    """
    zeros = jax.tree.map(jnp.zeros_like, bench.grads)
    state = bench.state
    for grads in (zeros, zeros, zeros, bench.grads):
        updates, state = bench.step(grads, state, bench.params)
        fail_if_not_finite("the update", updates)
        fail_if_not_finite("the state", state)


@check(
    needs=("core_runs", "updates_like_params", "state_stable"),
    call='p = {"w": jnp.ones((4, 3), jnp.bfloat16)}; s = tx.init(p); print(tx.update(p, s, p))',
    cause="a float32 array or numpy scalar joins the arithmetic, so the update or the state "
    "widens; or an eps below the range rounds to zero",
    change="compute in float32 and convert back: .astype(update.dtype), .astype(state.dtype)",
)
def check_bf16(bench: Bench) -> None:
    """With bfloat16 parameters the updates are bfloat16, the state is stable, all is finite."""
    params, grads = cast(bench.params, jnp.bfloat16), cast(bench.grads, jnp.bfloat16)
    state = bench.tx.init(params)
    updates, _ = jax.eval_shape(bench.update, grads, state, params)
    fail_if_unlike("the update", updates, params, "the parameter")
    fail_if_state_changes(bench, params, grads)
    for _ in range(2):
        updates, state = bench.step(grads, state, params)
    fail_if_not_finite("the update", updates)
    fail_if_not_finite("the state", state)
