"""What `jax.jit`, `jax.lax.scan` and `jax.vmap` ask of a step."""

import jax

from ..bench import STEPS, Bench, fail_if_far
from ..registry import check
from ..verdicts import CheckFailure


@check(
    phase="abstract",
    needs=("core_runs", "state_stable"),
    call="jax.lax.scan(lambda s, _: (tx.update(p, s, p)[1], None), s, length=3)",
    cause="the state is rebuilt from other types than `init` chose, or holds a mutable container",
    change="return the state as the same NamedTuple, built from arrays alone",
)
def check_scan_carry(bench: Bench) -> None:
    """The state can be the carry of `jax.lax.scan`."""

    def step(carry, _):
        _, state = bench.update(bench.grads, carry, bench.params)
        return state, None

    jax.eval_shape(lambda state: jax.lax.scan(step, state, length=STEPS), bench.state)


@check(
    needs=("core_runs", "updates_like_params", "state_stable"),
    call="f = jax.jit(tx.update); _, t = f(p, s, p); f(p, t, p); print(f._cache_size())",
    cause="the state carries a type that `init` did not make, a weakly typed number for instance",
    change="make the state in `init` of exactly the types that `update` returns",
)
def check_no_recompile(bench: Bench) -> None:
    """Three steps under `jax.jit` trace `update` once."""
    _ = bench.trajectory
    if bench.traces != 1:
        raise CheckFailure(f"`update` was traced {bench.traces} times in {STEPS} steps")


@check(
    needs=("core_runs", "updates_like_params"),
    call="print(jax.jit(tx.update)(p, s, p)[0], tx.update(p, s, p)[0])",
    cause="Python state outside the transformation: a global, an attribute or a numpy random "
    "number is read when `update` is traced and frozen into the compiled program",
    change="keep what changes in the state, and random keys too",
)
def check_jit_equals_eager(bench: Bench) -> None:
    """A compiled step gives the updates of an eager one, within 1e-3 of the largest.

    The bound is wide, because compilers reorder sums and Newton-Schulz iterations amplify rounding
    about 500 times; a fault of logic is not that small. Checked at the first and the last of
    three steps.
    """
    for step in (bench.trajectory[0], bench.trajectory[-1]):
        updates, _ = bench.update(step.grads, step.state, step.params)
        fail_if_far("the compiled update", step.updates, updates, "the eager one", rtol=1e-3)
