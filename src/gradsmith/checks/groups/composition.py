"""Inside Optax's wrappers."""

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
from ..steps import STEP_IS_SOUND, fail_if_step_differs
from ..verdicts import CheckFailure, NotApplicable


@check(
    requires=("factory", "learning_rate"),
    needs=(*STEP_IS_SOUND, "no_recompile"),
    call="i = optax.inject_hyperparams(FACTORY)(0.01); "
    "print(jax.jit(i.update)(p, i.init(p), p)[0])",
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
    if len({leaf.dtype for leaf in jax.tree.leaves(bench.params)}) > 1:
        raise NotApplicable("an injected rate has one dtype, and the model has several")
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
        fail_if_step_differs(
            "an injected rate",
            (updates, states[0].inner_state),
            (expected, states[1]),
            "the same rate",
            1e-3,
            bench.step,
            step.grads,
            step.state,
            step.params,
        )
    if traces != 1:
        raise CheckFailure(f"`update` was traced {traces} times in {STEPS} steps")


@check(
    phase="abstract",
    tier="advisory",
    requires=("factory",),
    needs=STEP_IS_SOUND,
    call="i = optax.inject_hyperparams(FACTORY)(0.01); "
    "print(jax.jit(i.update)(p, i.init(p), p)[0])",
    cause="the factory looks at a number (an `if`, float(), a loop count); injected, it is traced",
    change="use it in arithmetic only; check it under `if isinstance(x, float)`",
)
def check_inject_all_floats(bench: Bench) -> None:
    """Every float argument of the factory can be injected by `optax.inject_hyperparams`."""
    tx = _inject_floats(bench)
    jax.eval_shape(lambda g, p: bench.update(g, tx.init(p), p, tx=tx), bench.grads, bench.params)


@check(
    requires=("factory",),
    needs=(*STEP_IS_SOUND, "bf16_finite"),
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

    try:
        updates = run(grads, tx.init(params), params)
    except Exception as error:
        raise NotApplicable(
            f"not every float can be injected ({type(error).__name__}); the check "
            "`inject_all_floats` says why"
        ) from None
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
    needs=(*STEP_IS_SOUND, "no_recompile", "no_callbacks", "pure"),
    unless=("no_accumulation",),
    call="m = optax.MultiSteps(tx, 2); t = m.init(p); _, t = m.update(p, t, p); "
    "print(m.update(p, t, p)[0])",
    cause="`update` uses the number of calls, keeps what it saw outside the state, or misses "
    "`params` where they are passed by name",
    change="count in the state alone, and call the third parameter `params`",
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
        updates, state = bench.update(grads, state, params, tx=tx)
        return updates, state.inner_opt_state

    given = (bench.grads, bench.state, bench.params)
    seen, like = run(bench.grads, bench.params), bench.step(*given)
    fail_if_step_differs("accumulation", seen, like, "a plain step", 1e-3, bench.step, *given)


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
    update = bench.compiled(tx)
    updates, state = update(nans, tx.init(bench.params), bench.params)
    fail_if_not_finite("the update of a NaN gradient", updates)
    fail_if_far("the inner state", state.inner_state, bench.state, "the fresh one", rtol=0.0)
    given = (bench.grads, bench.state, bench.params)
    updates, state = update(bench.grads, state, bench.params)
    seen, like = (updates, state.inner_state), bench.step(*given)
    fail_if_step_differs("the next step", seen, like, "a clean run", 1e-3, bench.step, *given)


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
