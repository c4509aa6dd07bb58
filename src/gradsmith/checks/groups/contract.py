"""What `init` and `update` take and give."""

import inspect
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..bench import Bench
from ..causes import formula
from ..check import check
from ..compare import (
    at,
    fail_if_unlike,
    short,
)
from ..places import describe_function, is_library
from ..steps import fail_if_state_changes
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
        if isinstance(tx, type):
            seen = f"{where} returned the class {tx.__qualname__}"
            cause = "the parentheses that make an object of it are missing"
            raise CheckFailure(seen, cause=cause, change=f"return `{tx.__qualname__}(...)`")
        seen = f"{where} returned {str(tx)[:200]} ({type(tx).__name__})"
        if bench.subject.is_formula:
            cause, change = formula(bench.subject.name)
            raise CheckFailure(seen, cause=cause, change=change)
        if all(callable(getattr(tx, method, None)) for method in ("init", "update")):
            cause = "an object with `init` and `update` is not the pair that Optax unpacks"
            change = "return optax.GradientTransformation(made.init, made.update)"
            raise CheckFailure(seen, cause=cause, change=change)
        raise CheckFailure(seen)


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

    On a matrix and a bias in a dict, or on the model where a small one is given. Everything but the
    two checks before it builds on this one.
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
