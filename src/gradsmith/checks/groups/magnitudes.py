"""Numbers at the ends of the range: zero, tiny, huge, and counters at their last value."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..bench import Bench
from ..check import check
from ..compare import fail_if_not_finite
from ..steps import (
    STEP_IS_SOUND,
    fail_if_steps_not_finite,
    filled,
)
from ..verdicts import CheckFailure


@check(
    needs=STEP_IS_SOUND,
    call="print(tx.update(optax.tree.zeros_like(p), s, p))",
    cause="a division by a norm, or by the root of a second moment, that is zero",
    change="divide by jnp.where(norm > 0, norm, 1), or add eps to the denominator in float32",
)
def check_zero_grads(bench: Bench) -> None:
    """After three steps with zero gradients and one normal step everything is finite.

    A layer that is unused or not yet reached has a gradient of exactly zero.
    """
    zeros = optax.tree.zeros_like(bench.grads)
    fail_if_steps_not_finite(bench, bench.params, [zeros, zeros, zeros, bench.grads])


@check(
    needs=(*STEP_IS_SOUND, "zero_grads"),
    call='g = {"layer": {**p["layer"], "bias": jnp.zeros(3)}}; print(tx.update(g, s, p)[0])',
    cause="a ratio of two leaves' norms, or a leaf's own norm, is taken where it is zero",
    change="add eps to the denominator, in float32",
)
def check_one_zero_leaf(bench: Bench) -> None:
    """One leaf with a gradient of zero leaves everything finite."""
    leaves, tree = jax.tree.flatten(bench.grads)
    grads = jax.tree.unflatten(tree, [jnp.zeros_like(leaves[0]), *leaves[1:]])
    fail_if_steps_not_finite(bench, bench.params, [grads, bench.grads])


@check(
    needs=(*STEP_IS_SOUND, "zero_grads"),
    call="k = jnp.outer(jnp.arange(1.0, 5.0), jnp.ones(3)); "
    'g = {"layer": {**p["layer"], "kernel": k}}; print(tx.update(g, s, p))',
    cause="the Gram matrix is singular: its root or inverse meets eigenvalues that rounding made "
    "zero or negative",
    change="add eps times the largest eigenvalue to the diagonal, and clip eigenvalues from below",
)
def check_rank_one_grads(bench: Bench) -> None:
    """Gradients of rank one, as a batch of one example gives, leave everything finite."""

    def rank_one(g: Any) -> Any:
        rows = np.asarray(g, np.float64)
        if rows.ndim < 2:
            return g
        left, right = rows[..., :, :1], rows[..., :1, :]
        return jnp.asarray((left * right).astype(g.dtype))

    grads = jax.tree.map(rank_one, bench.grads)
    fail_if_steps_not_finite(bench, bench.params, [grads, grads, bench.grads])


@check(
    needs=STEP_IS_SOUND,
    call="g = jax.tree.map(lambda x: 1e15 * x, p); print(tx.update(g, s, p))",
    cause="a fourth power (a square of a square, a Gram of a Gram) overflows float32 at 1e10",
    change="divide by the largest magnitude first",
)
def check_huge_grads(bench: Bench) -> None:
    """A gradient of 1e15, whose square float32 holds, leaves everything finite."""
    fail_if_steps_not_finite(bench, bench.params, [filled(bench.grads, 1e15)])


@check(
    needs=(*STEP_IS_SOUND, "zero_grads"),
    call="g = jax.tree.map(lambda x: 1e-30 * x, p); print(tx.update(g, s, p))",
    cause="the square of the gradient underflows to zero and is divided by, unguarded",
    change="add eps outside the root, or divide by the largest magnitude first",
)
def check_tiny_grads(bench: Bench) -> None:
    """A gradient of 1e-30, whose square is zero in float32, leaves everything finite."""
    fail_if_steps_not_finite(bench, bench.params, [filled(bench.grads, 1e-30), bench.grads])


@check(
    tier="advisory",
    needs=(*STEP_IS_SOUND, "zero_grads"),
    call="jax.debug_nans(True).__enter__(); tx.update(optax.tree.zeros_like(p), s, p)",
    cause="a NaN is made and thrown away by jnp.where: 0/0 in the branch that is not taken",
    change="mend the argument too: jnp.where(n > 0, x / jnp.where(n > 0, n, 1), 0)",
)
def check_debug_nans(bench: Bench) -> None:
    """Under jax_debug_nans eager steps with normal and with zero gradients raise nothing."""
    state = bench.state
    with jax.debug_nans(True):
        for grads in (bench.grads, optax.tree.zeros_like(bench.grads)):
            _, state = bench.update(grads, state, bench.params)


@check(
    tier="advisory",
    needs=STEP_IS_SOUND,
    call="t = jax.tree.map(lambda x: jnp.full_like(x, jnp.iinfo(x.dtype).max) if "
    "x.dtype == jnp.int32 else x, s); print(tx.update(p, t, p))",
    cause="count + 1 wraps around behind the largest number of its dtype, 2**31 - 1 in int32",
    change="use optax.safe_increment(count)",
)
def check_count_saturates(bench: Bench) -> None:
    """Integer counters at their largest value do not wrap, and everything stays finite.

    A counter is signed, or of shape (): a random key is neither. Arrays of 8 bits are quantized
    numbers.
    """

    def counts(x: Any) -> bool:
        if not jnp.issubdtype(x.dtype, jnp.integer):
            return False
        signed = jnp.issubdtype(x.dtype, jnp.signedinteger)
        return x.ndim == 0 or (signed and x.dtype != jnp.int8)

    def largest(x: Any) -> Any:
        return jnp.full_like(x, jnp.iinfo(x.dtype).max) if counts(x) else x

    before = jax.tree.map(largest, bench.state)
    updates, after = bench.step(bench.grads, before, bench.params)
    fail_if_not_finite("the update", updates)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        unsigned = jnp.issubdtype(old.dtype, jnp.unsignedinteger)
        if counts(old) and bool(jnp.any((new == 0 if unsigned else new < 0) & (old > 0))):
            raise CheckFailure(f"a counter at {old} became {new}")
