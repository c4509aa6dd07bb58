"""What `init` and `update` take and give."""

import inspect
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..bench import (
    Bench,
    at,
    fail_if_far,
    fail_if_structure_differs,
    fail_if_types_differ,
    fail_if_unlike,
    host,
    mirrors,
    sample,
    short,
)
from ..diagnosis import describe_function, is_library
from ..registry import check
from ..verdicts import CheckFailure

SIGNATURE = "def update_fn(updates, state, params=None):"


@check(
    phase="abstract",
    needs=(),
    call="print(type(tx))",
    cause="the factory returns its two functions, its state or nothing",
    change="end the factory with `return optax.GradientTransformation(init_fn, update_fn)`",
)
def check_is_transformation(bench: Bench) -> None:
    """The factory returns an `optax.GradientTransformation`."""
    tx = bench.tx
    if not isinstance(tx, optax.GradientTransformation):
        where = describe_function(bench.subject.factory)
        raise CheckFailure(f"{where} returned {str(tx)[:200]} ({type(tx).__name__})")


@check(
    phase="abstract",
    needs=("is_transformation",),
    call="tx.update(p, s, params=p)",
    cause="`update(grads, state)` works alone; optax.chain always passes `params` as well, and "
    "optax documents that name",
    change=f"write `{SIGNATURE}`, and `del params` in it if they are not used",
)
def check_update_signature(bench: Bench) -> None:
    """`update` can be called as `(u, s, p)` and `(u, s, params=p)`.

    Held against the transformation, and against those of the author's own that its functions
    close over: the members of a chain, and what a wrapper wraps.
    """
    for where, signature in _signatures(bench.tx):
        if not _binds(signature, "u", "s", "p"):
            raise CheckFailure(f"the signature of {where} is `{signature}`: it takes no `params`")
        if not _binds(signature, "u", "s", params="p"):
            raise CheckFailure(
                f"the signature of {where} is `{signature}`: its third parameter is not called "
                "`params`"
            )


@check(
    phase="abstract",
    needs=("update_signature",),
    unless=("needs_params",),
    call="tx.update(p, s)",
    cause="optax.chain always passes `params`, so a chain hides that they have no default; "
    "`update(grads, state)` fails",
    change=f"write `{SIGNATURE}`; where they are needed, raise a ValueError that says so",
)
def check_params_default(bench: Bench) -> None:
    """`params` has a default, so that `update(u, s)` is a call.

    Held against the same transformations as `update_signature`.
    """
    for where, signature in _signatures(bench.tx):
        if not _binds(signature, "u", "s"):
            raise CheckFailure(
                f"the signature of {where} is `{signature}`: `params` has no default"
            )


def _signatures(tx: Any) -> Iterator[tuple[str, inspect.Signature]]:
    """Where the author's `update` functions stand, and what they take."""
    for inner in _inner_transformations(tx):
        if inner is tx or not is_library(inner.update):
            try:
                yield describe_function(inner.update), inspect.signature(inner.update)
            except (TypeError, ValueError):  # a builtin; running it will tell
                continue


def _binds(signature: inspect.Signature, *args: str, **kwargs: str) -> bool:
    """Whether a call fits; parameters behind the third are extra arguments, and left out."""
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    kept = [
        parameter
        for number, parameter in enumerate(signature.parameters.values())
        if parameter.kind in variable
        or (number < 3 and parameter.kind is not inspect.Parameter.KEYWORD_ONLY)
    ]
    try:
        signature.replace(parameters=kept).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def _inner_transformations(tx: Any) -> Iterator[optax.GradientTransformation]:
    """`tx` and all transformations that its functions hold in their closures."""
    seen: dict[int, Any] = {}
    waiting = [tx]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if isinstance(thing, optax.GradientTransformation):
            yield thing
        if isinstance(thing, tuple | list):
            waiting.extend(thing)
        elif isinstance(thing, dict):
            waiting.extend(thing.values())
        elif inspect.isfunction(thing):
            waiting.extend(inspect.getclosurevars(thing).nonlocals.values())


@check(
    phase="abstract",
    needs=("is_transformation", "update_signature"),
    call="updates, new_state = tx.update(p, s, p)",
    cause="`update` returns something else than (updates, new_state)",
    change="end `update_fn` with `return updates, new_state`: two values, as optax.chain unpacks",
)
def check_core_runs(bench: Bench) -> None:
    """`init(params)` runs, and `update(grads, state, params)` returns two values.

    On a matrix and a bias in a dict. Everything but the two checks before it builds on this one.
    """
    state = bench.state

    def update(grads, params):
        returned = bench.update(grads, state, params)
        if not isinstance(returned, tuple) or len(returned) != 2:
            count = f"a tuple of {len(returned)}" if isinstance(returned, tuple) else "a"
            raise CheckFailure(
                f"{describe_function(bench.tx.update)} returned {count} "
                f"{'values' if isinstance(returned, tuple) else type(returned).__name__}",
                expected="two values, `(updates, new_state)`",
            )
        return returned

    jax.eval_shape(update, bench.grads, bench.params)


@check(
    phase="abstract",
    call="print(jax.tree.map(jax.typeof, tx.update(p, s, p)[0]))",
    cause="a float32 constant or accumulator widens the update, a reduction drops an axis, or "
    "`update` returns its state as the updates",
    change="build the updates with jax.tree.map over the incoming ones, and end with "
    ".astype(update.dtype)",
)
def check_updates_like_params(bench: Bench) -> None:
    """Updates have the tree, the shapes and the dtypes of the parameters."""
    updates, _ = jax.eval_shape(bench.update, bench.grads, bench.state, bench.params)
    fail_if_unlike("the update", updates, bench.params, "the parameter")


@check(
    phase="abstract",
    call="print(jax.tree.map(type, s))",
    cause="`init` stores Python numbers, strings or objects, which retrace or cannot be saved",
    change="store arrays, `jnp.zeros([], jnp.int32)` for a counter; keep constants in the closure",
)
def check_state_leaves_are_arrays(bench: Bench) -> None:
    """Every leaf of the state is an array."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(bench.state):
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
            raise CheckFailure(f"the state at {at(path)} is {short(leaf)}")


@check(
    phase="abstract",
    needs=("core_runs", "state_leaves_are_arrays"),
    call="print(jax.tree.map(jax.typeof, [s, tx.update(p, s, p)[1]]))",
    cause="`update` computes the new state in another dtype than `init` chose, or `init` makes a "
    "weakly typed scalar such as jnp.asarray(0.0)",
    change="name the dtype in `init` (jnp.zeros([], jnp.float32)) and convert in `update` "
    "(new.astype(old.dtype))",
)
def check_state_stable(bench: Bench) -> None:
    """A step keeps the structure, shapes, dtypes and weak types of the state."""
    fail_if_state_changes(bench, bench.params, bench.grads)


def fail_if_state_changes(bench: Bench, params: Any, grads: Any) -> None:
    """Compare the types of the state before and after a step, abstractly."""
    before = bench.tx.init(params)
    _, after = jax.eval_shape(bench.update, grads, before, params)
    fail_if_types_differ("the state after a step", after, before, "at `init` it")


@check(
    phase="abstract",
    call="optax.with_extra_args_support(tx).update(p, s, p, stranger=1.0)",
    cause="the transformation is declared GradientTransformationExtraArgs, and its `update` "
    "takes only the arguments it knows; in a chain it receives those of the others too",
    change="end the signature with `**extra_args`, or return a plain GradientTransformation",
)
def check_extra_args_ignored(bench: Bench) -> None:
    """Extra arguments meant for others are ignored after `optax.with_extra_args_support`."""
    tx = optax.with_extra_args_support(bench.tx)

    def update(grads, state, params, stranger):
        extra = bench.extra_args(params, grads)
        return tx.update(grads, state, params, **extra, stranger=stranger)

    jax.eval_shape(update, bench.grads, bench.state, bench.params, jnp.ones(()))


@check(
    phase="abstract",
    tier="advisory",
    needs=("core_runs", "params_default"),
    unless=("needs_params",),
    call="tx.update(p, s)",
    cause="`params` are used although nothing needs them (weight decay zero), or an attribute of "
    "None is taken",
    change="use `params` only where they are needed, and raise a ValueError naming `params` there",
)
def check_params_optional(bench: Bench) -> None:
    """`update(u, s)` without params works, or raises a ValueError that names `params`."""

    def update(grads, state):
        extra = bench.extra_args(bench.params, grads)
        return optax.with_extra_args_support(bench.tx).update(grads, state, **extra)

    try:
        jax.eval_shape(update, bench.grads, bench.state)
    except ValueError as error:
        if "params" not in str(error):
            raise


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
    if bench.program(*args).same_as(bench.program(*args)):
        return
    first, second = bench.update(*args), bench.update(*args)
    fail_if_far("the second call's result", second, first, "the first call's", rtol=0.0)


@check(
    phase="abstract",
    needs=("core_runs", "pure"),
    requires=("factory",),
    call="print(s, FACTORY(0.01).init(p))",
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
    if bench.program(*args).same_as(bench.program(*args, tx=other)):
        return
    fail_if_far(
        "the second instance's update",
        bench.update(*args, tx=other)[0],
        bench.update(*args)[0],
        "the first's",
        rtol=0.0,
    )


@check(
    phase="abstract",
    needs=("core_runs", "pure"),
    call="q = [jnp.ones(2)]; tx.update(q, tx.init(q), q); tx.update(p, s, p)",
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
    if not before.same_as(after):
        raise CheckFailure("after a second model, `update` of the first does something else")
    fail_if_far("a fresh state", bench.state, args[1], "before the second model", rtol=0.0)


@check(
    phase="abstract",
    call="c = optax.chain(optax.identity(), tx); print(c.update(p, c.init(p), p))",
    cause="`update` depends on being the outermost transformation: it looks at the stack, or at "
    "the type of the state it is handed",
    change="use nothing but the arguments of `update`",
)
def check_chain(bench: Bench) -> None:
    """Behind `optax.identity` in an `optax.chain` it does the same."""
    chain = optax.chain(optax.identity(), bench.tx)
    args = (bench.grads, bench.state, bench.params)
    chained = (bench.grads, chain.init(bench.params), bench.params)
    if bench.program(*args).same_as(bench.program(*chained, tx=chain)):
        return
    fail_if_far(
        "the update in a chain",
        bench.update(*chained, tx=chain)[0],
        bench.update(*args)[0],
        "the update alone",
        rtol=1e-6,
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
    cause="`update` writes into an array (updates *= ...), or calls a method that numpy lacks "
    "(.at)",
    change="make new arrays; begin with jnp.asarray where a method of JAX is used",
)
def check_numpy_inputs(bench: Bench) -> None:
    """Read-only numpy arrays give the same updates as JAX arrays."""

    def frozen(x: Any) -> np.ndarray:
        copy = np.array(x)
        copy.flags.writeable = False
        return copy

    params, grads = jax.tree.map(frozen, (bench.params, bench.grads))
    updates, _ = bench.update(grads, bench.tx.init(params), params)
    expected, _ = bench.update(bench.grads, bench.state, bench.params)
    fail_if_far("the update of numpy arrays", updates, expected, "of JAX arrays", rtol=1e-6)
