"""Inside Optax's wrappers, and under schedules."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ..bench import STEPS, Bench
from ..check import check
from ..compare import at, fail_if_far, fail_if_not_finite
from ..mirrors import mirrors, param_leaves
from ..problem import cast
from ..steps import STEP_IS_SOUND
from ..verdicts import CheckFailure, NotApplicable


@check(
    requires=("factory", "learning_rate"),
    needs=(*STEP_IS_SOUND, "no_recompile"),
    call="i = optax.inject_hyperparams(FACTORY)(0.01); print(i.update(p, i.init(p), p)[0])",
    cause="the factory looks at the learning rate (an `if`, float(), a format string), and "
    "injected it is a traced array",
    change="use the rate in arithmetic only; check it under `if isinstance(rate, float)`",
)
def check_inject_learning_rate(bench: Bench) -> None:
    """`optax.inject_hyperparams` over the learning rate gives the same steps, compiled once."""
    subject = bench.subject
    rate = str(subject.rate_name)
    if not isinstance(subject.rate_value, float):
        raise NotApplicable("its learning rate is no float")
    plain = subject.build(**{rate: subject.rate_value})
    tx = optax.inject_hyperparams(lambda injected: subject.build(**{rate: injected}))(
        injected=subject.rate_value
    )
    traces = 0

    @jax.jit
    def update(grads, states, params):
        nonlocal traces
        traces += 1
        a, injected = bench.update(grads, states[0], params, tx=tx)
        b, unchanged = bench.update(grads, states[1], params, tx=plain)
        return a, b, (injected, unchanged)

    states = tx.init(bench.params), plain.init(bench.params)
    for step in bench.trajectory:
        updates, expected, states = update(step.grads, states, step.params)
        fail_if_far(
            "the update with an injected rate", updates, expected, "with the same rate", 1e-3
        )
    if traces != 1:
        raise CheckFailure(f"`update` was traced {traces} times in {STEPS} steps")


@check(
    phase="abstract",
    tier="advisory",
    requires=("factory",),
    needs=STEP_IS_SOUND,
    call="i = optax.inject_hyperparams(FACTORY)(0.01); i.update(p, i.init(p), p)",
    cause="the factory looks at a number (an `if`, float(), a loop count); injected, it is traced",
    change="use it in arithmetic only; check it under `if isinstance(x, float)`",
)
def check_inject_all_floats(bench: Bench) -> None:
    """Every float argument of the factory can be injected by `optax.inject_hyperparams`."""
    tx = _inject_floats(bench)
    jax.eval_shape(lambda g, p: bench.update(g, tx.init(p), p, tx=tx), bench.grads, bench.params)


@check(
    requires=("factory",),
    needs=(*STEP_IS_SOUND, "bf16_finite", "inject_all_floats"),
    call='p = {"w": jnp.ones((4, 3), jnp.bfloat16)}; i = optax.inject_hyperparams(FACTORY)(0.01); '
    "print(i.update(p, i.init(p), p)[0])",
    cause="inject_hyperparams converts every number to the dtype of the parameters, in which "
    "0.999 is 1.0: 1 - b2 is zero (optax issue 1414)",
    change="build with optax.inject_hyperparams(factory, hyperparam_dtype=jnp.float32), or write "
    "decays as 1 - b2 in an argument of its own",
)
def check_inject_bf16(bench: Bench) -> None:
    """With all floats injected and bfloat16 parameters two updates are finite and not zero."""
    params, grads = cast(bench.params, jnp.bfloat16), cast(bench.grads, jnp.bfloat16)
    tx = _inject_floats(bench)

    @jax.jit
    def run(grads, state, params):
        _, state = bench.update(grads, state, params, tx=tx)
        return bench.update(grads, state, params, tx=tx)[0]

    updates = run(grads, tx.init(params), params)
    fail_if_not_finite("the update", updates)
    plain = bench.step(grads, bench.step(grads, bench.tx.init(params), params)[1], params)[0]
    for (path, leaf), other in zip(
        jax.tree_util.tree_leaves_with_path(updates), jax.tree.leaves(plain), strict=True
    ):
        if bool(jnp.any(other != 0)) and not bool(jnp.any(leaf != 0)):
            raise CheckFailure(f"the update at {at(path)} is zero; without injection it is not")


def _inject_floats(bench: Bench) -> Any:
    """The subject with its learning rate and every float among its arguments injected."""
    subject = bench.subject
    parameters = inspect.signature(subject.factory).parameters.values()
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        raise NotApplicable("the factory takes *args or **kwargs, which cannot be injected")
    arguments = {
        p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty
    } | subject.call_arguments
    static = {name for name, value in arguments.items() if not isinstance(value, float)}
    if len(static) == len(arguments):
        raise NotApplicable("the factory has no float among its arguments")
    return optax.inject_hyperparams(subject.factory, static_args=static)(**arguments)


@check(
    tier="advisory",
    requires=("factory", "learning_rate"),
    needs=(*STEP_IS_SOUND, "no_recompile"),
    unless=("no_schedule",),
    call="i = FACTORY(lambda count: 0.01); print(i.update(p, i.init(p), p)[0])",
    cause="the learning rate is used in arithmetic where a schedule is a function of the count, or "
    "the count is incremented before the schedule sees it",
    change="end the chain with optax.scale_by_learning_rate(lr), which takes both",
)
def check_schedule(bench: Bench) -> None:
    """A schedule works as learning rate: it is asked for counts 0, 1, 2, and followed.

    A constant schedule gives the steps of the constant. One that falls to zero at count 2 gives the
    same first two updates, and another third one.
    """
    rate, value = str(bench.subject.rate_name), bench.subject.rate_value

    def updates_under(schedule: Any) -> list[Any]:
        tx = bench.subject.build(**{rate: schedule})
        update = jax.jit(lambda g, s, p: bench.update(g, s, p, tx=tx))
        state, taken = tx.init(bench.params), []
        for step in bench.trajectory:
            updates, state = update(step.grads, state, step.params)
            taken.append(updates)
        return taken

    constant = updates_under(lambda count: jnp.where(count < 99, value, 0.0))
    stepped = updates_under(lambda count: jnp.where(count < 2, value, 0.0))
    if bench.subject.call_arguments.get(rate) == value:
        for number, step in enumerate(bench.trajectory):
            what = f"update {number + 1} under a constant schedule"
            fail_if_far(what, constant[number], step.updates, "with the constant", rtol=1e-3)
    for number in range(2):
        what = f"update {number + 1} under a schedule that falls to zero at count 2"
        fail_if_far(what, stepped[number], constant[number], "without the fall", rtol=1e-3)
    last = zip(jax.tree.leaves(constant[2]), jax.tree.leaves(stepped[2]), strict=True)
    if not any(bool(jnp.any(a != b)) for a, b in last):
        raise CheckFailure("the schedule falls to zero at count 2, and update 3 does not change")


@check(
    requires=("factory", "learning_rate"),
    needs=(*STEP_IS_SOUND, "schedule"),
    unless=("no_schedule",),
    call="i = FACTORY(lambda count: 0.01 * (count > 0)); print(i.update(p, i.init(p), p))",
    cause="an average weighted by the learning rate, or a quantity divided by it, begins at 0 / 0",
    change="divide where the sum of the weights is positive: jnp.where on argument and result",
)
def check_warmup(bench: Bench) -> None:
    """Under a schedule that starts at zero, as a linear warmup does, two steps are finite."""
    value = bench.subject.rate_value
    tx = bench.subject.build(
        **{str(bench.subject.rate_name): lambda count: jnp.where(count > 0, value, 0.0)}
    )

    @jax.jit
    def run(grads, state, params):
        first, state = bench.update(grads, state, params, tx=tx)
        second, state = bench.update(grads, state, params, tx=tx)
        return first, second, state

    taken = run(bench.grads, tx.init(bench.params), bench.params)
    for what, tree in zip(
        ("the first update", "the second update", "the state"), taken, strict=True
    ):
        fail_if_not_finite(what, tree)


@check(
    needs=(*STEP_IS_SOUND, "no_recompile", "no_callbacks"),
    unless=("no_accumulation",),
    call="m = optax.MultiSteps(tx, 2); t = m.init(p); _, t = m.update(p, t, p); "
    "print(m.update(p, t, p)[0])",
    cause="`update` uses the number of calls, or keeps what it saw outside the state",
    change="count in the state alone",
)
def check_multisteps(bench: Bench) -> None:
    """Under `optax.MultiSteps` two equal gradients make the step of one of them.

    Traced under standard promotion, which optax.MultiSteps itself needs.
    """
    with jax.numpy_dtype_promotion("standard"):
        _fail_if_accumulation_differs(bench)


def _fail_if_accumulation_differs(bench: Bench) -> None:
    wrapper = optax.MultiSteps(bench.tx, every_k_schedule=2)

    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> Any:
        return wrapper.update(updates, state, params, **extra_args)

    # Not wrapper.gradient_transformation(): that is plain, so extra arguments would be dropped.
    tx = optax.GradientTransformationExtraArgs(wrapper.init, update)

    @jax.jit
    def run(grads, params):
        _, state = bench.update(grads, tx.init(params), params, tx=tx)
        return bench.update(grads, state, params, tx=tx)[0]

    expected, _ = bench.step(bench.grads, bench.state, bench.params)
    fail_if_far(
        "the accumulated update", run(bench.grads, bench.params), expected, "the plain one", 1e-3
    )


@check(
    needs=(*STEP_IS_SOUND, "no_recompile"),
    call="a = optax.apply_if_finite(tx, 5); g = jax.tree.map(lambda x: x * jnp.nan, p); "
    "print(a.update(g, a.init(p), p))",
    cause="the state or the update changes its type in a step, so the two branches of a cond "
    "disagree; or `update` changes its input state in place",
    change="return exactly the types of `init`, in new containers",
)
def check_apply_if_finite(bench: Bench) -> None:
    """Under `optax.apply_if_finite` a NaN gradient changes nothing, and the next step is clean."""
    tx = optax.apply_if_finite(bench.tx, max_consecutive_errors=5)
    nans = jax.tree.map(lambda g: jnp.full_like(g, jnp.nan), bench.grads)
    update = jax.jit(lambda g, s, p: bench.update(g, s, p, tx=tx))
    updates, state = update(nans, tx.init(bench.params), bench.params)
    fail_if_not_finite("the update of a NaN gradient", updates)
    fail_if_far("the inner state", state.inner_state, bench.state, "the fresh one", rtol=0.0)
    updates, _ = update(bench.grads, state, bench.params)
    expected, _ = bench.step(bench.grads, bench.state, bench.params)
    fail_if_far("the next update", updates, expected, "that of a clean run", rtol=1e-3)


@check(
    phase="abstract",
    needs=("core_runs", "state_leaves_are_arrays"),
    call="print(optax.tree.map_params(tx, lambda x: -1, s))",
    cause="`init` looks at the parameters (shapes, leaves, paths) in a way that hides from Optax "
    "which arrays of the state belong to parameters",
    change="make parameter-shaped state by jax.tree.map(jnp.zeros_like, params)",
)
def check_tree_map_params(bench: Bench) -> None:
    """`optax.tree.map_params` works, and visits all of the state that has the parameters' tree."""
    state = bench.state
    same = optax.tree.map_params(bench.tx, lambda x: x, state)
    fail_if_far("the state under the identity", same, state, "the state", rtol=0.0)
    visited = param_leaves(bench.tx, state)
    for path, mirror in mirrors(state, bench.params):
        if not all(id(x) in visited for x in jax.tree.leaves(mirror)):
            raise CheckFailure(f"the state at {at(path)} has the parameters' tree, but is missed")
