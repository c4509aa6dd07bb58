"""Numbers of little precision, of much, and in mixed company."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..bench import Bench
from ..check import check
from ..compare import at, host
from ..mirrors import mirrors
from ..problem import cast, is_float
from ..steps import (
    STEP_IS_SOUND,
    fail_if_state_changes,
    fail_if_steps_not_finite,
    fail_if_types_widen,
    filled,
)
from ..verdicts import CheckFailure

_EQUAL_STEPS = 500
_STALLED = 0.1
_GROWN = 4.0
KEEP_DTYPE = "compute in float32 and convert back: .astype(update.dtype), .astype(state.dtype)"


@check(
    phase="abstract",
    needs=STEP_IS_SOUND,
    call='p = {"w": jnp.ones((4, 3), jnp.bfloat16)}; s = tx.init(p); print(tx.update(p, s, p))',
    cause="a float32 array or numpy scalar joins the arithmetic and widens it",
    change=KEEP_DTYPE,
)
def check_bf16(bench: Bench) -> None:
    """With bfloat16 parameters the updates are bfloat16 and the state is stable."""
    fail_if_types_widen(bench, cast(bench.params, jnp.bfloat16), cast(bench.grads, jnp.bfloat16))


@check(
    needs=("bf16", "no_recompile"),
    call='p = {"w": jnp.ones((4, 3), jnp.bfloat16)}; s = tx.init(p); print(tx.update(p, s, p))',
    cause="1 - decay is zero, because 0.999 is 1.0 in bfloat16",
    change="compute in float32 and convert back at the end",
)
def check_bf16_finite(bench: Bench) -> None:
    """With bfloat16 parameters two steps are finite, and the second moves what float32 moves."""
    params, grads = cast(bench.params, jnp.bfloat16), cast(bench.grads, jnp.bfloat16)
    updates = fail_if_steps_not_finite(bench, params, [grads, grads])
    wide = bench.trajectory[1].updates
    for (path, leaf), other in zip(
        jax.tree_util.tree_leaves_with_path(updates), jax.tree.leaves(wide), strict=True
    ):
        if bool(jnp.any(other != 0)) and not bool(jnp.any(leaf != 0)):
            raise CheckFailure(f"the update at {at(path)} is zero; in float32 it is not")


@check(
    tier="advisory",
    needs=(*STEP_IS_SOUND, "bf16_finite"),
    call='p = {"w": jnp.ones((4, 3), jnp.bfloat16)}; s = tx.init(p); f = jax.jit(tx.update); '
    "[s := f(p, s, p)[1] for _ in range(500)]; print(s)",
    cause="an average is kept in bfloat16, where a sum of 1 and 0.001 is 1: it stops before it "
    "reaches what it averages",
    change="keep averages in float32: jnp.zeros_like(p, dtype=jnp.float32)",
)
def check_bf16_averages_move(bench: Bench) -> None:
    """With bfloat16 parameters 500 equal gradients bring averages where float32 brings them.

    Held against the parts of the state that have the parameters' tree and are kept in bfloat16, to
    a tenth of the largest entry. A part that is bfloat16 with float32 parameters too has nothing to
    be held against. If it grew, it may not stand still both when the next gradient is equal and
    when it is tiny: an average then moves one way or the other.
    """
    wide, narrow = (
        _averages(*_after_equal_steps(bench, dtype)) for dtype in (jnp.float32, jnp.bfloat16)
    )
    for place, (leaf, *_) in narrow.items():
        like = host(wide[place][0])
        if leaf.dtype == jnp.bfloat16 and np.any(
            np.abs(host(leaf) - like) > _STALLED * np.max(np.abs(like), initial=0.0)
        ):
            raise CheckFailure(
                f"after {_EQUAL_STEPS} equal gradients the state at {place} is up to "
                f"{np.max(np.abs(host(leaf))):.3g} in bfloat16 and {np.max(np.abs(like)):.3g} in "
                "float32"
            )
    for place, (leaf, first, *later) in wide.items():
        grown = np.abs(host(leaf)) > _GROWN * np.abs(host(first))
        still = np.all([host(one) == host(leaf) for one in later], axis=0)
        if leaf.dtype == jnp.bfloat16 and np.any((host(first) != 0) & grown & still):
            raise CheckFailure(
                f"after {_EQUAL_STEPS} equal gradients the state at {place} stands still, whatever "
                "the next gradient is; it is bfloat16 with float32 parameters too"
            )


def _after_equal_steps(bench: Bench, dtype: Any) -> tuple[Any, list[Any]]:
    """Parameters, and the states after all steps, the first, one more, and one that is tiny."""
    params, grads = cast(bench.params, dtype), cast(bench.grads, dtype)
    tiny = jax.tree.map(lambda g: (g * 2.0**-10).astype(g.dtype), grads)
    step = lambda state, grads=grads: bench.step(grads, state, params)[1]
    first = last = step(bench.tx.init(params))
    for _ in range(_EQUAL_STEPS - 1):
        last = step(last)
    return params, [last, first, step(last), step(last, tiny)]


def _averages(params: Any, states: list[Any]) -> dict[str, list[Any]]:
    """The leaves of the parts of states that are the parameters', by where they are."""
    found: dict[str, list[Any]] = {}
    for state in states:
        for place, part in mirrors(state, params):
            for path, leaf in jax.tree_util.tree_leaves_with_path(part):
                found.setdefault(at(place + path), []).append(leaf)
    return found


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
    fail_if_steps_not_finite(
        bench, params, [optax.tree.zeros_like(grads), optax.tree.zeros_like(grads), grads]
    )


@check(
    tier="advisory",
    needs=(*STEP_IS_SOUND, "bf16_finite"),
    call='p = {"w": jnp.ones((4, 3), jnp.float16)}; s = tx.init(p); print(tx.update(p, s, p))',
    cause="the range of float16 ends at 65504 and begins at 6e-8: squares overflow, eps is zero",
    change=KEEP_DTYPE,
)
def check_f16(bench: Bench) -> None:
    """With float16 parameters the updates are float16, the state is stable, all is finite."""
    params, grads = cast(bench.params, jnp.float16), cast(bench.grads, jnp.float16)
    fail_if_types_widen(bench, params, grads)
    fail_if_steps_not_finite(bench, params, [grads, grads])


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
    fail_if_steps_not_finite(
        bench, params, [optax.tree.zeros_like(grads), optax.tree.zeros_like(grads), grads]
    )


@check(
    tier="advisory",
    needs=("f16", "huge_grads"),
    call='p = {"w": jnp.full((4, 3), 300.0, jnp.float16)}; s = tx.init(p); '
    "print(tx.update(p, s, p)[0])",
    cause="the square of 300 is beyond float16, so a second moment is infinite and the update zero",
    change="keep second moments in float32",
)
def check_f16_not_stalled(bench: Bench) -> None:
    """With float16 gradients of 300 two updates are finite, and not zero where float32's are not.

    The second update is looked at, because the first is zero under a schedule that starts there.
    """
    wide, narrow = [
        fail_if_steps_not_finite(bench, params, [filled(params, 300.0)] * 2)
        for params in (bench.params, cast(bench.params, jnp.float16))
    ]
    for (path, leaf), other in zip(
        jax.tree_util.tree_leaves_with_path(narrow), jax.tree.leaves(wide), strict=True
    ):
        if bool(jnp.any(other != 0)) and not bool(jnp.any(leaf != 0)):
            raise CheckFailure(f"the update at {at(path)} is zero; in float32 it is not")


@check(
    phase="abstract",
    needs=STEP_IS_SOUND,
    call="jax.enable_x64(True).__enter__(); print(jax.eval_shape(tx.update, p, s, p))",
    cause="jnp.zeros(()), jnp.asarray(0.5), a sum of integers or a numpy array has 64 bits under "
    "jax_enable_x64, and widens what it meets",
    change="name the dtype of every array that is made: jnp.zeros((), jnp.float32)",
)
def check_f32_under_x64(bench: Bench) -> None:
    """With jax_enable_x64 on, float32 parameters keep float32 updates and a stable state."""
    with jax.enable_x64(True):
        fail_if_types_widen(bench, bench.params, bench.grads)


@check(
    phase="abstract",
    tier="advisory",
    needs=(*STEP_IS_SOUND, "f32_under_x64"),
    call='jax.enable_x64(True).__enter__(); p = {"w": jnp.ones((4, 3))}; s = tx.init(p); '
    "print(jax.tree.map(jax.typeof, tx.update(p, s, p)))",
    cause="float32 is written into the code: jnp.zeros(p.shape, jnp.float32)",
    change="take the dtype of the parameter, or say in the docstring that the state is float32",
)
def check_f64(bench: Bench) -> None:
    """With float64 parameters updates and parameter-shaped state are float64 and stable."""
    with jax.enable_x64(True):
        params, grads = cast(bench.params, jnp.float64), cast(bench.grads, jnp.float64)
        fail_if_types_widen(bench, params, grads)
        shapes = {p.shape for p in jax.tree.leaves(params) if p.ndim > 1}
        for leaf in jax.tree.leaves(bench.tx.init(params)):
            if is_float(leaf) and leaf.shape in shapes and leaf.dtype != jnp.float64:
                raise CheckFailure(f"a leaf of the state is {leaf.dtype}")


@check(
    phase="abstract",
    tier="advisory",
    needs=(*STEP_IS_SOUND, "bf16"),
    call='p = {"w": jnp.ones((4, 3)), "b": jnp.ones(3, jnp.bfloat16)}; s = tx.init(p); '
    "print(jax.tree.map(jax.typeof, tx.update(p, s, p)[0]))",
    cause="leaves meet: in a global norm, a concatenated vector, or one scalar that scales all",
    change="convert each leaf's update to its own dtype at the end",
)
def check_mixed_dtypes(bench: Bench) -> None:
    """In a tree of float32 and bfloat16 leaves each update has the dtype of its parameter."""
    params, grads = (_mix(tree) for tree in (bench.params, bench.grads))
    fail_if_types_widen(bench, params, grads)


def _mix(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(
        structure, [x.astype(jnp.bfloat16) if i % 2 else x for i, x in enumerate(leaves)]
    )


@check(
    phase="abstract",
    tier="advisory",
    needs=(*STEP_IS_SOUND, "bf16"),
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
    needs=(*STEP_IS_SOUND, "bf16"),
    call="s = tx.init(p); print(tx.update(optax.tree.cast(p, jnp.bfloat16), s, p)[1])",
    cause="the state takes the dtype of the parameters at `init` and that of the gradients after",
    change="convert the new state to the dtype of the old one",
)
def check_bf16_grads_f32_params(bench: Bench) -> None:
    """Bfloat16 gradients of float32 parameters leave the state stable."""
    fail_if_state_changes(bench, bench.params, cast(bench.grads, jnp.bfloat16))


@check(
    tier="advisory",
    needs=STEP_IS_SOUND,
    call='p = {"w": jnp.ones((4, 3), jnp.complex64)}; s = tx.init(p); print(tx.update(p, s, p))',
    cause="the real part alone, x**2 where x * conj(x) is meant, or a second moment that is "
    "complex",
    change="use jnp.abs(x)**2, or wrap in optax.contrib.split_real_and_imaginary",
)
def check_complex64(bench: Bench) -> None:
    """With complex parameters updates are complex, the state is stable, all is finite."""
    wide = cast(bench.params, jnp.float32)
    params = jax.tree.map(lambda p: jax.lax.complex(p, jnp.flip(p)), wide)
    grads = jax.tree.map(jnp.negative, params)
    fail_if_types_widen(bench, params, grads)
    fail_if_steps_not_finite(bench, params, [grads, grads])


@check(
    phase="abstract",
    tier="advisory",
    needs=STEP_IS_SOUND,
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
    needs=STEP_IS_SOUND,
    call='jax.numpy_rank_promotion("raise").__enter__(); tx.update(p, s, p)',
    cause="a vector meets a matrix and is broadcast silently, along the axis numpy chooses",
    change="write the axis: v[None, :]",
)
def check_rank_promotion(bench: Bench) -> None:
    """`init` and `update` trace under jax.numpy_rank_promotion("raise")."""
    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(bench.update, bench.grads, bench.state, bench.params)
