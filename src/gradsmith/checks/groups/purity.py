"""`update` depends on its arguments alone, and leaves them as they were."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend import core

from ..bench import Bench
from ..check import check
from ..compare import (
    at,
    fail_if_far,
    fail_if_structure_differs,
    host,
)
from ..mirrors import mirrors
from ..problem import cast, sample
from ..program import same_program
from ..steps import fail_if_step_differs
from ..verdicts import CheckFailure


@check(
    phase="abstract",
    call="before = str(s); tx.update(p, s, p); print(before == str(s))",
    cause="`update` writes into the state or gradient it was given: state[key] = ..., .pop, "
    ".append, or a counter kept in an attribute",
    change="build a new container and return it; keep everything that changes in the state",
)
def check_inputs_not_mutated(bench: Bench) -> None:
    """`update` leaves the containers it is given as they were."""

    def update(*given):
        before = jax.tree.flatten(given)
        returned = bench.update(*given)
        after = jax.tree.flatten(given)
        if before[1] != after[1] or any(
            a is not b for a, b in zip(before[0], after[0], strict=True)
        ):
            for what, old, new in zip(
                ("gradients", "state", "params"),
                jax.tree.unflatten(before[1], before[0]),
                given,
                strict=True,
            ):
                fail_if_structure_differs(f"the {what} after `update`", new, old, "before, they")
            raise CheckFailure("a leaf that was passed in was replaced by another")
        return returned

    jax.eval_shape(update, bench.grads, bench.state, bench.params)


@check(
    phase="abstract",
    needs=("core_runs", "inputs_not_mutated"),
    call="print(tx.update(p, s, p), tx.update(p, s, p))",
    cause="something outside the state changes from call to call: an attribute, a global, "
    "a random number of numpy",
    change="keep what changes in the state; draw random numbers from a key kept there",
)
def check_pure(bench: Bench) -> None:
    """The same call, made twice, gives the same bits."""
    args = (bench.grads, bench.state, bench.params)
    if same_program(bench.program(*args), bench.program(*args)):
        return
    first, second = bench.update(*args), bench.update(*args)
    fail_if_far("the second call's result", second, first, "the first call's", rtol=0.0)


@check(
    phase="abstract",
    needs=("core_runs", "pure"),
    requires=("factory",),
    call="a = FACTORY(0.01); print(tx.update(p, s, p)); print(a.update(p, a.init(p), p))",
    cause="instances share something that changes, or each draws its own random numbers when it "
    "is built",
    change="take a key or seed as an argument of the factory, with a fixed default",
)
def check_deterministic_instances(bench: Bench) -> None:
    """Two instances built alike start from the same state and take the same step."""
    other = bench.subject.build()
    state = bench.state
    fail_if_far(
        "the second instance's state", other.init(bench.params), state, "the first's", rtol=0.0
    )
    args = (bench.grads, state, bench.params)
    if same_program(bench.program(*args), bench.program(*args, tx=other)):
        return
    fail_if_far(
        "the second instance's result",
        bench.update(*args, tx=other),
        bench.update(*args),
        "the first's",
        rtol=0.0,
    )


@check(
    phase="abstract",
    needs=("core_runs", "pure"),
    call="q = [jnp.ones(2)]; tx.update(q, tx.init(q), q); print(tx.update(p, s, p)[0])",
    cause="`init` writes what it learnt of the parameters (shapes, a mask, a step count) into the "
    "transformation itself",
    change="keep it in the state, or compute it anew in `update`",
)
def check_two_models(bench: Bench) -> None:
    """Using one instance on a second model leaves the first undisturbed."""
    bench.require_own_trees()
    args = (bench.grads, bench.state, bench.params)
    before = bench.program(*args)
    other = sample([(5, 2), (6,)])
    jax.eval_shape(bench.update, other, bench.tx.init(other), other)
    after = bench.program(*args)
    if not same_program(before, after):
        leaves = jax.tree.leaves(args)
        old, new = (core.jaxpr_as_fun(program)(*leaves) for program in (before, after))
        fail_if_far("a result of `update` after a second model", new, old, "before it", rtol=0.0)
    fail_if_far("a fresh state", bench.state, args[1], "before the second model", rtol=0.0)


@check(
    needs=("core_runs", "pure"),
    phase="abstract",
    call="c = optax.chain(optax.identity(), tx); print(c.update(p, c.init(p), p))",
    cause="`update` is a method that does something else than the field which a chain unpacks, or "
    "it looks at the type of the state it is handed",
    change="build the pair of the functions themselves, optax.GradientTransformation(init_fn, "
    "update_fn), and use nothing but the arguments of `update`",
)
def check_chain(bench: Bench) -> None:
    """Behind `optax.identity` in an `optax.chain` it gives the same updates and the same state."""
    chain = optax.chain(optax.identity(), bench.tx)
    args = (bench.grads, bench.state, bench.params)
    chained = (bench.grads, chain.init(bench.params), bench.params)
    if same_program(bench.program(*args), bench.program(*chained, tx=chain)):
        return
    updates, (_, state) = bench.update(*chained, tx=chain)
    fail_if_step_differs(
        "a chain", (updates, state), bench.update(*args), "it alone", 1e-6, bench.update, *args
    )


@check(
    tier="advisory",
    needs=("core_runs", "updates_like_params", "state_stable", "no_recompile"),
    call="print(s, tx.update(p, s, p)[1])",
    cause="`update` returns the state it was given, or computes a new moment and drops it",
    change="return the new state: `return updates, State(new_moment)`",
)
def check_state_moves(bench: Bench) -> None:
    """Three steps change the state, and leave no accumulator at zero.

    An accumulator is a part of the state that has the parameters' tree and shapes, and is zero at
    `init`. A state without leaves passes.
    """
    before, after = bench.trajectory[0].state, bench.trajectory[-1].new_state
    pairs = list(zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))
    if pairs and all(np.array_equal(host(old), host(new), equal_nan=True) for old, new in pairs):
        raise CheckFailure("after three steps every leaf of the state is as `init` made it")
    starts, ends = mirrors(before, bench.params), mirrors(after, bench.params)
    for (path, start), (_, end) in zip(starts, ends, strict=True):
        if not any(np.any(host(leaf)) for leaf in jax.tree.leaves((start, end))):
            raise CheckFailure(f"the state at {at(path)} is still zero after three steps")


@check(
    needs=("core_runs", "jit_equals_eager", "updates_like_params"),
    call="q = jax.device_get(p); print(tx.update(q, tx.init(q), q)[0])",
    cause="`update` writes into an array (updates *= ...), calls a method that numpy lacks (.at), "
    "or asks of what type an array is",
    change="make new arrays; begin with jnp.asarray where a method of JAX is used",
)
def check_numpy_inputs(bench: Bench) -> None:
    """Read-only numpy arrays give the same updates and the same state as JAX arrays.

    In float32, because bfloat16 is no number of numpy's own.
    """

    def frozen(x: Any) -> np.ndarray:
        copy = np.array(x)
        copy.flags.writeable = False
        return copy

    wide = cast((bench.params, bench.grads), jnp.float32)
    params, grads = jax.tree.map(frozen, wide)
    given = (wide[1], bench.tx.init(wide[0]), wide[0])
    seen, like = bench.update(grads, bench.tx.init(params), params), bench.update(*given)
    fail_if_step_differs("numpy arrays", seen, like, "JAX arrays", 1e-6, bench.update, *given)
