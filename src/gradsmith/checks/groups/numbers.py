"""Numbers at the ends of the range, of little precision, and in mixed company."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..bench import (
    Bench,
    at,
    cast,
    fail_if_not_finite,
    fail_if_unlike,
    gradient,
    is_float,
)
from ..registry import check
from ..verdicts import CheckFailure
from .contract import fail_if_state_changes

_NEEDS = ("core_runs", "updates_like_params", "state_stable")
_KEEP_DTYPE = "compute in float32 and convert back: .astype(update.dtype), .astype(state.dtype)"


def _fail_if_steps_not_finite(bench: Bench, params: Any, sequence: list[Any]) -> Any:
    """Take one compiled step for each gradient of the sequence; return the last updates."""
    state, updates = bench.tx.init(params), None
    for number, grads in enumerate(sequence, 1):
        updates, state = bench.step(grads, state, params)
        fail_if_not_finite(f"after step {number} the update", updates)
        fail_if_not_finite(f"after step {number} the state", state)
    return updates


def _filled(like: Any, number: float) -> Any:
    """Gradients of one size, with the signs of `like`."""
    return jax.tree.map(
        lambda g: jnp.asarray((np.sign(np.asarray(g)) * number).astype(g.dtype)), like
    )


def _zeros(like: Any) -> Any:
    return jax.tree.map(jnp.zeros_like, like)


def _fail_if_types_widen(bench: Bench, params: Any, grads: Any) -> None:
    """Updates like the parameters, and a stable state, abstractly."""
    updates, _ = jax.eval_shape(bench.update, grads, bench.tx.init(params), params)
    fail_if_unlike("the update", updates, params, "the parameter")
    fail_if_state_changes(bench, params, grads)


@check(
    needs=_NEEDS,
    call="print(tx.update(optax.tree.zeros_like(p), s, p))",
    cause="a division by a norm, or by the root of a second moment, that is zero",
    change="add eps to the denominator, in float32, or use jnp.where on both the argument and the "
    "result",
)
def check_zero_grads(bench: Bench) -> None:
    """After three steps with zero gradients and one normal step everything is finite.

    A layer that is unused or not yet reached has a gradient of exactly zero.
    """
    zeros = _zeros(bench.grads)
    _fail_if_steps_not_finite(bench, bench.params, [zeros, zeros, zeros, bench.grads])


@check(
    needs=(*_NEEDS, "zero_grads"),
    call='g = {"w": p["w"], "b": jnp.zeros(3)}; print(tx.update(g, s, p)[0])',
    cause="a ratio of two leaves' norms, or a leaf's own norm, is taken where it is zero",
    change="add eps to the denominator, in float32",
)
def check_one_zero_leaf(bench: Bench) -> None:
    """One leaf with a gradient of zero leaves everything finite."""
    leaves, tree = jax.tree.flatten(bench.grads)
    grads = jax.tree.unflatten(tree, [jnp.zeros_like(leaves[0]), *leaves[1:]])
    _fail_if_steps_not_finite(bench, bench.params, [grads, bench.grads])


@check(
    needs=(*_NEEDS, "zero_grads"),
    call='g = {"w": jnp.outer(jnp.arange(1.0, 5.0), jnp.ones(3)), "b": p["b"]}; '
    "print(tx.update(g, s, p))",
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
    _fail_if_steps_not_finite(bench, bench.params, [grads, grads, bench.grads])


@check(
    needs=_NEEDS,
    call="g = jax.tree.map(lambda x: 1e15 * x, p); print(tx.update(g, s, p))",
    cause="a fourth power (a square of a square, a Gram of a Gram) overflows float32 at 1e10",
    change="divide by the largest magnitude first",
)
def check_huge_grads(bench: Bench) -> None:
    """A gradient of 1e15, whose square float32 holds, leaves everything finite."""
    _fail_if_steps_not_finite(bench, bench.params, [_filled(bench.grads, 1e15)])


@check(
    needs=(*_NEEDS, "zero_grads"),
    call="g = jax.tree.map(lambda x: 1e-30 * x, p); print(tx.update(g, s, p))",
    cause="the square of the gradient underflows to zero and is divided by, unguarded",
    change="add eps outside the root, or divide by the largest magnitude first",
)
def check_tiny_grads(bench: Bench) -> None:
    """A gradient of 1e-30, whose square is zero in float32, leaves everything finite."""
    _fail_if_steps_not_finite(bench, bench.params, [_filled(bench.grads, 1e-30), bench.grads])


@check(
    tier="advisory",
    needs=(*_NEEDS, "huge_grads"),
    call="g = jax.tree.map(lambda x: 1e25 * x, p); print(tx.update(g, s, p)[1])",
    cause="a second moment that overflowed once stays infinite for ever",
    change="wrap in optax.apply_if_finite, or clip before the moments",
)
def check_overflow_recovers(bench: Bench) -> None:
    """Twenty steps after one gradient of 1e25 the state is finite."""
    state = bench.state
    for grads in [_filled(bench.grads, 1e25)] + [bench.grads] * 20:
        _, state = bench.step(grads, state, bench.params)
    fail_if_not_finite("the state", state)


@check(
    phase="abstract",
    needs=_NEEDS,
    call='p = {"w": jnp.ones((4, 3), jnp.bfloat16)}; s = tx.init(p); print(tx.update(p, s, p))',
    cause="a float32 array or numpy scalar joins the arithmetic and widens it",
    change=_KEEP_DTYPE,
)
def check_bf16(bench: Bench) -> None:
    """With bfloat16 parameters the updates are bfloat16 and the state is stable."""
    _fail_if_types_widen(bench, cast(bench.params, jnp.bfloat16), cast(bench.grads, jnp.bfloat16))


@check(
    needs=("bf16", "no_recompile"),
    call='p = {"w": jnp.ones((4, 3), jnp.bfloat16)}; s = tx.init(p); print(tx.update(p, s, p))',
    cause="1 - decay is zero, because 0.999 is 1.0 in bfloat16",
    change="compute in float32 and convert back at the end",
)
def check_bf16_finite(bench: Bench) -> None:
    """With bfloat16 parameters two steps are finite, and the second moves what float32 moves."""
    params, grads = cast(bench.params, jnp.bfloat16), cast(bench.grads, jnp.bfloat16)
    updates = _fail_if_steps_not_finite(bench, params, [grads, grads])
    wide = bench.trajectory[1].updates
    for (path, leaf), other in zip(
        jax.tree_util.tree_leaves_with_path(updates), jax.tree.leaves(wide), strict=True
    ):
        if bool(jnp.any(other != 0)) and not bool(jnp.any(leaf != 0)):
            raise CheckFailure(f"the update at {at(path)} is zero; in float32 it is not")


@check(
    needs=("bf16_finite", "zero_grads"),
    call='p = {"w": jnp.ones((4, 3), jnp.bfloat16)}; s = tx.init(p); '
    "print(tx.update(optax.tree.zeros_like(p), s, p))",
    cause="an eps that float32 holds is lost in a sum with bfloat16 numbers",
    change="compute denominators in float32",
)
def check_bf16_zero_grads(bench: Bench) -> None:
    """With bfloat16 parameters two zero gradients and a normal one leave everything finite."""
    params, grads = cast(bench.params, jnp.bfloat16), cast(bench.grads, jnp.bfloat16)
    _fail_if_steps_not_finite(bench, params, [_zeros(grads), _zeros(grads), grads])


@check(
    tier="advisory",
    needs=(*_NEEDS, "bf16_finite"),
    call='p = {"w": jnp.ones((4, 3), jnp.float16)}; s = tx.init(p); print(tx.update(p, s, p))',
    cause="the range of float16 ends at 65504 and begins at 6e-8: squares overflow, eps is zero",
    change=_KEEP_DTYPE,
)
def check_f16(bench: Bench) -> None:
    """With float16 parameters the updates are float16, the state is stable, all is finite."""
    params, grads = cast(bench.params, jnp.float16), cast(bench.grads, jnp.float16)
    _fail_if_types_widen(bench, params, grads)
    _fail_if_steps_not_finite(bench, params, [grads, grads])


@check(
    tier="advisory",  # what Optax's own adam and most published code fail is a remark
    needs=("f16", "zero_grads"),
    call='p = {"w": jnp.ones((4, 3), jnp.float16)}; s = tx.init(p); '
    "print(tx.update(optax.tree.zeros_like(p), s, p))",
    cause="an eps of 1e-8 is zero in float16, so zero is divided by zero",
    change="compute denominators in float32, or keep the state in float32",
)
def check_f16_zero_grads(bench: Bench) -> None:
    """With float16 parameters two zero gradients and a normal one leave everything finite."""
    params, grads = cast(bench.params, jnp.float16), cast(bench.grads, jnp.float16)
    _fail_if_steps_not_finite(bench, params, [_zeros(grads), _zeros(grads), grads])


@check(
    tier="advisory",
    needs=("f16", "huge_grads"),
    call='p = {"w": jnp.full((4, 3), 300.0, jnp.float16)}; s = tx.init(p); '
    "print(tx.update(p, s, p)[0])",
    cause="the square of 300 is beyond float16, so a second moment is infinite and the update zero",
    change="keep second moments in float32",
)
def check_f16_not_stalled(bench: Bench) -> None:
    """With float16 gradients of 300 the update is finite and not zero."""
    params = cast(bench.params, jnp.float16)
    grads = _filled(cast(bench.grads, jnp.float16), 300.0)
    updates = _fail_if_steps_not_finite(bench, params, [grads])
    for leaf in jax.tree.leaves(updates):
        if leaf.size and not bool(jnp.any(leaf != 0)):
            raise CheckFailure("the update is zero")


@check(
    phase="abstract",
    needs=_NEEDS,
    call="jax.enable_x64(True).__enter__(); print(jax.eval_shape(tx.update, p, s, p))",
    cause="jnp.zeros(()), jnp.asarray(0.5) or a numpy array is float64 under jax_enable_x64, and "
    "widens what it meets",
    change="name the dtype of every array that is made: jnp.zeros((), jnp.float32)",
)
def check_f32_under_x64(bench: Bench) -> None:
    """With jax_enable_x64 on, float32 parameters keep float32 updates and a stable state."""
    with jax.enable_x64(True):
        _fail_if_types_widen(bench, bench.params, bench.grads)


@check(
    phase="abstract",
    tier="advisory",
    needs=(*_NEEDS, "f32_under_x64"),
    call='jax.enable_x64(True).__enter__(); p = {"w": jnp.ones((4, 3))}; s = tx.init(p); '
    "print(jax.tree.map(jax.typeof, tx.update(p, s, p)))",
    cause="float32 is written into the code: jnp.zeros(p.shape, jnp.float32)",
    change="take the dtype of the parameter, or say in the docstring that the state is float32",
)
def check_f64(bench: Bench) -> None:
    """With float64 parameters updates and parameter-shaped state are float64 and stable."""
    with jax.enable_x64(True):
        params, grads = cast(bench.params, jnp.float64), cast(bench.grads, jnp.float64)
        _fail_if_types_widen(bench, params, grads)
        shapes = {p.shape for p in jax.tree.leaves(params) if p.ndim > 1}
        for leaf in jax.tree.leaves(bench.tx.init(params)):
            if is_float(leaf) and leaf.shape in shapes and leaf.dtype != jnp.float64:
                raise CheckFailure(f"a leaf of the state is {leaf.dtype}")


@check(
    phase="abstract",
    tier="advisory",
    needs=(*_NEEDS, "bf16"),
    call='p = {"w": jnp.ones((4, 3)), "b": jnp.ones(3, jnp.bfloat16)}; s = tx.init(p); '
    "print(jax.tree.map(jax.typeof, tx.update(p, s, p)[0]))",
    cause="leaves meet: in a global norm, a concatenated vector, or one scalar that scales all",
    change="convert each leaf's update to its own dtype at the end",
)
def check_mixed_dtypes(bench: Bench) -> None:
    """In a tree of float32 and bfloat16 leaves each update has the dtype of its parameter."""
    params, grads = (_mix(tree) for tree in (bench.params, bench.grads))
    _fail_if_types_widen(bench, params, grads)


def _mix(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(
        structure, [x.astype(jnp.bfloat16) if i % 2 else x for i, x in enumerate(leaves)]
    )


@check(
    phase="abstract",
    tier="advisory",
    needs=(*_NEEDS, "bf16"),
    call='p = {"w": jnp.ones((4, 3), jnp.bfloat16)}; s = tx.init(p); '
    'print(tx.update({"w": jnp.ones((4, 3))}, s, p)[1])',
    cause="the state takes the dtype of the parameters at `init` and that of the gradients after",
    change="convert the new state to the dtype of the old one",
)
def check_f32_grads_bf16_params(bench: Bench) -> None:
    """Float32 gradients of bfloat16 parameters leave the state stable."""
    fail_if_state_changes(bench, cast(bench.params, jnp.bfloat16), bench.grads)


@check(
    phase="abstract",
    tier="advisory",
    needs=(*_NEEDS, "bf16"),
    call="s = tx.init(p); print(tx.update(optax.tree.cast(p, jnp.bfloat16), s, p)[1])",
    cause="the state takes the dtype of the parameters at `init` and that of the gradients after",
    change="convert the new state to the dtype of the old one",
)
def check_bf16_grads_f32_params(bench: Bench) -> None:
    """Bfloat16 gradients of float32 parameters leave the state stable."""
    fail_if_state_changes(bench, bench.params, cast(bench.grads, jnp.bfloat16))


@check(
    tier="advisory",
    needs=_NEEDS,
    call='p = {"w": jnp.ones((4, 3), jnp.complex64)}; s = tx.init(p); print(tx.update(p, s, p))',
    cause="x**2 where x * conj(x) is meant, or a second moment that is complex",
    change="use jnp.abs(x)**2, or wrap in optax.contrib.split_real_and_imaginary",
)
def check_complex64(bench: Bench) -> None:
    """With complex parameters updates are complex, the state is stable, all is finite."""
    params = jax.tree.map(
        lambda p: jax.lax.complex(p, jnp.flip(p)) if is_float(p) else p, bench.params
    )
    grads = jax.tree.map(jnp.negative, params)
    _fail_if_types_widen(bench, params, grads)
    _fail_if_steps_not_finite(bench, params, [grads, grads])


@check(
    phase="abstract",
    tier="advisory",
    needs=_NEEDS,
    call='jax.numpy_dtype_promotion("strict").__enter__(); tx.update(p, s, p)',
    cause="an integer counter meets floats without being converted",
    change="write count.astype(jnp.float32), jnp.asarray(x, dtype)",
)
def check_strict_promotion(bench: Bench) -> None:
    """`init` and `update` trace under jax.numpy_dtype_promotion("strict")."""
    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(bench.update, bench.grads, bench.state, bench.params)


@check(
    phase="abstract",
    tier="advisory",
    needs=_NEEDS,
    call='jax.numpy_rank_promotion("raise").__enter__(); tx.update(p, s, p)',
    cause="a vector meets a matrix and is broadcast silently, along the axis numpy chooses",
    change="write the axis: v[None, :]",
)
def check_rank_promotion(bench: Bench) -> None:
    """`init` and `update` trace under jax.numpy_rank_promotion("raise")."""
    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(bench.update, bench.grads, bench.state, bench.params)


@check(
    tier="advisory",
    needs=(*_NEEDS, "zero_grads"),
    call="jax.debug_nans(True).__enter__(); tx.update(optax.tree.zeros_like(p), s, p)",
    cause="a NaN is made and thrown away by jnp.where: 0/0 in the branch that is not taken",
    change="mend the argument too: jnp.where(n > 0, x / jnp.where(n > 0, n, 1), 0)",
)
def check_debug_nans(bench: Bench) -> None:
    """Under jax_debug_nans eager steps with normal and with zero gradients raise nothing."""
    state = bench.state
    with jax.debug_nans(True):
        for grads in (bench.grads, _zeros(bench.grads)):
            _, state = bench.update(grads, state, bench.params)


@check(
    tier="advisory",
    needs=_NEEDS,
    call="t = jax.tree.map(lambda x: jnp.full_like(x, jnp.iinfo(x.dtype).max) if "
    "x.dtype == jnp.int32 else x, s); print(tx.update(p, t, p))",
    cause="count + 1 wraps to a negative number after 2**31 - 1 steps",
    change="use optax.safe_increment(count)",
)
def check_count_saturates(bench: Bench) -> None:
    """Integer counters at their largest value do not wrap, and everything stays finite.

    A counter is signed, or of shape (): a random key is neither.
    """

    def counts(x: Any) -> bool:
        return jnp.issubdtype(x.dtype, jnp.signedinteger) or (
            jnp.issubdtype(x.dtype, jnp.unsignedinteger) and x.ndim == 0
        )

    def largest(x: Any) -> Any:
        return jnp.full_like(x, jnp.iinfo(x.dtype).max) if counts(x) else x

    before = jax.tree.map(largest, bench.state)
    updates, after = bench.step(bench.grads, before, bench.params)
    fail_if_not_finite("the update", updates)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        unsigned = jnp.issubdtype(old.dtype, jnp.unsignedinteger)
        if counts(old) and bool(jnp.any((new == 0 if unsigned else new < 0) & (old > 0))):
            raise CheckFailure(f"a counter at {old} became {new}")


@check(
    tier="advisory",
    needs=_NEEDS,
    requires=("learning_rate",),
    call="q = optax.tree.zeros_like(p); print(tx.update(p, tx.init(q), q)[0])",
    cause="the update is scaled by the norm of the parameter, which is zero for a "
    "zero-initialised projection",
    change="use the norm only where it is positive: jnp.where(norm > 0, norm, 1.0)",
)
def check_zero_params(bench: Bench) -> None:
    """From parameters of zero three steps are finite, and move."""
    zeros = _zeros(bench.params)
    steps = bench.walk(zeros, bench.tx.init(zeros))
    fail_if_not_finite("the update", steps[-1].updates)
    if not any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(steps[-1].updates)):
        raise CheckFailure("after three steps the update is zero in every leaf")


@check(
    needs=(*_NEEDS, "no_recompile"),
    requires=("learning_rate",),
    unless=("no_descent",),
    call="print(tx.update(p, s, p)[0])",
    cause="the sign: Optax adds the update to the parameters",
    change="scale by minus the learning rate: optax.scale_by_learning_rate(lr)",
)
def check_descent_direction(bench: Bench) -> None:
    """The first update that is not zero points downhill: its product with the gradient is < 0."""
    for step in bench.trajectory:
        products = [
            float(np.vdot(np.asarray(g, np.float64), np.asarray(u, np.float64)))
            for g, u in zip(jax.tree.leaves(step.grads), jax.tree.leaves(step.updates), strict=True)
        ]
        if any(products):
            if sum(products) > 0:
                raise CheckFailure(f"the product of gradient and update is {sum(products):.3g}")
            return


@check(
    tier="advisory",
    needs=(*_NEEDS, "descent_direction"),
    requires=("learning_rate",),
    unless=("no_descent",),
    call="print(tx.update(p, s, p)[0])",
    cause="the step is far too small or too large at a learning rate of 0.01",
    change="state in the docstring in which units the learning rate is",
)
def check_descends(bench: Bench) -> None:
    """300 steps at its learning rate halve half the squared distance to a target."""
    params, state = bench.params, bench.state
    for _ in range(300):
        updates, state = bench.step(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
    start, end = (_distance(p) for p in (bench.params, params))
    if not end < start / 2:
        raise CheckFailure(f"the loss is {end:.4g} after 300 steps; it was {start:.4g}")


def _distance(params: Any) -> float:
    return sum(float(jnp.sum(jnp.square(g))) for g in jax.tree.leaves(gradient(params))) / 2
