"""What `jax.jit`, `jax.lax.scan` and `jax.vmap` ask of a step, and what donation asks of `init`."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..bench import STEPS, Bench
from ..check import check
from ..compare import at, fail_if_far, fail_if_types_differ, short
from ..program import captured, equations
from ..rounding import rounding
from ..steps import fail_if_step_differs
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
    phase="abstract",
    tier="advisory",
    call="jax.eval_shape(tx.init, p)",
    cause="`init` needs numbers: float(), an `if` on a value, or a numpy function",
    change="let `init` use shapes and dtypes alone, or jnp functions that can be traced",
)
def check_init_abstract(bench: Bench) -> None:
    """`jax.eval_shape(init, params)` works and predicts the state: memory can be planned ahead."""
    predicted = jax.eval_shape(bench.tx.init, bench.params)
    fail_if_types_differ("the predicted state", predicted, bench.state, "the real one")


@check(
    phase="abstract",
    call="print(jax.make_jaxpr(tx.update)(p, s, p).consts)",
    cause="an array made outside `update` is used in it: it is embedded in every compiled "
    "program, on every device",
    change="keep it in the state, or compute it in `update` from shapes",
)
def check_no_captured_constants(bench: Bench) -> None:
    """`update` embeds no constant above 1 KiB in its program, and none shaped like a parameter."""
    shapes = {p.shape for p in jax.tree.leaves(bench.params) if p.ndim > 1}
    for const in captured(bench.program(bench.grads, bench.state, bench.params)):
        if const.nbytes > 1024 or const.shape in shapes:
            raise CheckFailure(f"`update` captured an array {short(const)}")


@check(
    phase="abstract",
    call="print(jax.make_jaxpr(tx.update)(p, s, p).effects)",
    cause="a jax.debug.print or a host callback was left in: it stops the device at every step",
    change="take it out, or return the number in the state and print it outside",
)
def check_no_callbacks(bench: Bench) -> None:
    """`update` has no side effects and calls nothing on the host."""
    closed = bench.program(bench.grads, bench.state, bench.params)
    if closed.effects:
        names = ", ".join(sorted(type(effect).__name__ for effect in closed.effects))
        raise CheckFailure(f"the program of `update` has effects: {names}")
    for equation in equations(closed):
        if "callback" in equation.primitive.name:
            raise CheckFailure(f"the program of `update` calls the host: {equation.primitive}")


@check(
    phase="abstract",
    needs=("core_runs", "updates_like_params"),
    call="jax.checking_leaks().__enter__(); jax.jit(tx.update)(p, s, p)",
    cause="a traced value is kept in Python: an attribute, a global, a list of the factory",
    change="keep everything that changes in the state that `update` returns",
)
def check_no_leaked_tracers(bench: Bench) -> None:
    """No traced value outlives the trace of `update`."""
    with jax.checking_leaks():
        jax.make_jaxpr(bench.update)(bench.grads, bench.state, bench.params)


@check(
    needs=("core_runs", "updates_like_params", "state_stable"),
    call="f = jax.jit(tx.update); _, t = f(p, s, p); f(p, t, p); print(f._cache_size())",
    cause="the state carries a type that `init` did not make, a weakly typed number for instance; "
    "or `update` raises only when it runs, or changes a setting of JAX",
    change="make the state in `init` of exactly the types that `update` returns",
)
def check_no_recompile(bench: Bench) -> None:
    """Three steps under `jax.jit` trace `update` once."""
    before = bench.traces
    _ = bench.trajectory
    if bench.traces > before + 1:
        raise CheckFailure(f"`update` was traced {bench.traces - before} times in {STEPS} steps")


@check(
    needs=("core_runs", "updates_like_params", "pure", "no_recompile"),
    call="print(jax.jit(tx.update)(p, s, p)[0], tx.update(p, s, p)[0])",
    cause="Python looks at values: `if jnp.any(...)` guarded by isinstance(x, Tracer), a numpy "
    "function, or global state read while tracing",
    change="use jnp.where or jax.lax.cond, and keep what changes in the state",
)
def check_jit_equals_eager(bench: Bench) -> None:
    """A compiled step gives the updates and the state of an eager one.

    Within 1e-3 of the largest entry of each leaf, and the rounding that was measured: compilers
    reorder sums; a fault of logic is not that small. Checked at the first and the last of three
    steps.
    """
    for taken in (bench.trajectory[0], bench.trajectory[-1]):
        given = (taken.grads, taken.state, taken.params)
        seen, like = (taken.updates, taken.new_state), bench.update(*given)
        fail_if_step_differs(
            "a compiled step", seen, like, "an eager one", 1e-3, bench.step, *given
        )


@check(
    needs=("core_runs", "updates_like_params", "scan_carry", "no_recompile"),
    call="print(jax.lax.scan(lambda s, _: tx.update(p, s, p)[::-1], s, length=3))",
    cause="Python counts calls, or keeps something between them: a scan calls `update` once and "
    "runs it many times",
    change="keep everything that changes in the state",
)
def check_scan_equals_loop(bench: Bench) -> None:
    """Three steps under `jax.lax.scan` give the updates and the states of three single ones."""
    taken = bench.trajectory

    def step(state, given):
        updates, state = bench.update(given[0], state, given[1])
        return state, (updates, state)

    given = [(one.grads, one.params) for one in taken]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *given)
    _, seen = jax.jit(lambda state, xs: jax.lax.scan(step, state, xs))(taken[0].state, stacked)
    for number, one in enumerate(taken):
        fail_if_step_differs(
            f"step {number + 1} of a scan",
            jax.tree.map(lambda x, number=number: x[number], seen),
            (one.updates, one.new_state),
            "a single one",
            1e-3,
            bench.step,
            one.grads,
            one.state,
            one.params,
        )


@check(
    needs=("core_runs", "state_leaves_are_arrays"),
    call="print(jax.jit(tx.init)(p), tx.init(p))",
    cause="`init` looks at values or asks whether they are traced, or draws random numbers of "
    "numpy",
    change="let `init` use jnp functions on the parameters, and keys for random numbers",
)
def check_init_jit_equals_eager(bench: Bench) -> None:
    """`jax.jit(init)` gives the state of `init`."""
    compiled = jax.jit(bench.tx.init)(bench.params)
    fail_if_types_differ("the compiled `init`", compiled, bench.state, "the eager one")
    fail_if_far(
        "the compiled `init`",
        compiled,
        bench.state,
        "the eager one",
        1e-6,
        rounding(bench.tx.init, bench.params),
    )


@check(
    needs=("core_runs", "updates_like_params", "state_stable", "jit_equals_eager"),
    call="q = jax.tree.map(lambda x: jnp.stack([x] * 3), p); "
    "print(jax.vmap(lambda x: tx.update(x, tx.init(x), x)[0])(q))",
    cause="axes are counted from the front (x.shape[0], axis=0 of a reshaped leaf), a Python "
    "branch depends on a value, or a rule for batches (custom_vmap) does something else",
    change="count axes from the end, use jnp.where",
)
def check_vmap(bench: Bench) -> None:
    """Three lanes under `jax.vmap` equal three single runs: models can be trained side by side.

    Gradients, states and parameters are batched, and so is `init`. The states are those after a
    step.
    """
    first = bench.trajectory[1]
    lanes = []
    for factor in (1.0, -0.5, 2.0):
        scaled = lambda x, factor=factor: x * jnp.asarray(factor, x.dtype)
        grads, params = jax.tree.map(scaled, (first.grads, first.params))
        lanes.append((grads, bench.step(grads, first.state, params)[1], params))

    def both(grads, state, params):
        return bench.tx.init(params), bench.update(grads, state, params)

    batched = jax.jit(jax.vmap(both))(*jax.tree.map(lambda *x: jnp.stack(x), *lanes))
    for number, given in enumerate(lanes):
        fresh, seen = jax.tree.map(lambda x, number=number: x[number], batched)
        what, like = f"lane {number} of a batch", bench.step(*given)
        fail_if_far(f"the fresh state of {what}", fresh, bench.tx.init(given[2]), "alone it", 1e-6)
        fail_if_step_differs(what, seen, like, "a single run", 1e-3, bench.step, *given)


@check(
    needs=("core_runs", "state_stable", "no_recompile"),
    call='with jax.transfer_guard("disallow"): print(jax.jit(tx.update)(p, s, p)[0])',
    cause="the state holds numpy arrays, which are sent to the device anew at every step",
    change="make them in `init` with jnp",
)
def check_no_implicit_transfer(bench: Bench) -> None:
    """A compiled step moves nothing between host and device."""
    state = bench.state
    with jax.transfer_guard("disallow"):
        bench.step(bench.grads, state, bench.params)


@check(
    call="print([x is y for x in jax.tree.leaves(s) for y in jax.tree.leaves(p)])",
    cause="`init` keeps the parameters themselves, or one array in two places of the state: "
    "jnp.asarray(p) and p.astype(p.dtype) copy nothing",
    change="copy: jnp.array(p, copy=True), or jnp.zeros_like(p) for each place",
)
def check_init_no_alias(bench: Bench) -> None:
    """The state shares no buffer with the parameters and holds none twice.

    Such a state cannot be donated together with the parameters: XLA refuses to be given one
    buffer twice.
    """
    params, state = bench.params, bench.state
    owners = {key: f"the parameter at {place}" for place, key in _buffers(params)}
    for place, key in _buffers(state):
        if key in owners:
            raise CheckFailure(f"the state at {place} is the same buffer as {owners[key]}")
        owners[key] = f"the state at {place}"


@check(
    phase="last",
    needs=("core_runs", "updates_like_params", "state_stable", "pure", "init_no_alias"),
    call="f = jax.jit(lambda s: tx.update(p, s, p), donate_argnums=0); f(s); f(tx.init(p))",
    cause="every state holds an array that was made once, in the factory or as a default "
    "argument; donating one state deletes it for all",
    change="make the array in `init`; take an integer seed and call jax.random.key(seed) there",
)
def check_donate(bench: Bench) -> None:
    """Three steps that donate parameters and state equal three that do not.

    No other state of the instance loses an array by it.

    Runs on copies, so that it destroys nothing.
    """
    first, second = bench.state, bench.state
    owners = {key: place for place, key in _buffers(first)}
    for place, key in _buffers(second):
        if key in owners:
            raise CheckFailure(f"two states of one instance share the buffer at {place}")

    def step(params, state, grads):
        updates, state = bench.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    donating = jax.jit(step, donate_argnums=(0, 1))
    params, state = jax.tree.map(jnp.copy, (bench.params, first))
    kept_params, kept_state = bench.params, first
    for _ in range(STEPS):
        params, state = donating(params, state, bench.grads)
        updates, kept_state = bench.step(bench.grads, kept_state, kept_params)
        kept_params = optax.apply_updates(kept_params, updates)
    spared = rounding(bench.step, bench.grads, bench.state, bench.params)
    for what, seen, like, forgiven in (
        ("the parameters", params, kept_params, spared[0]),
        ("the state", state, kept_state, spared[1]),
    ):
        fail_if_far(f"{what} after donating", seen, like, "without", 1e-3, forgiven)


def _buffers(tree: Any) -> list[tuple[str, int]]:
    """The paths of the leaves that own memory, and the addresses of their memory."""
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.Array) and leaf.size:
            data = (
                jax.random.key_data(leaf)
                if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
                else leaf
            )
            found.append((at(path), data.unsafe_buffer_pointer()))
    return found
