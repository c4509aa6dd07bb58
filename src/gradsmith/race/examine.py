"""Refuse what cannot be raced, before anything is run, and say why."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..readout import eval_params
from .compiled import Compiled, update_of
from .entries import Entry
from .errors import RaceError
from .feeding import example
from .space import RATE
from .tasks import Task

NEEDS_A_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def examine_task(task: Task) -> None:
    """Trace what a task computes.

    Raises:
        RaceError: A function of the task fails, the parameters are no floating-point arrays, or
            the loss of a batch or of a held-out batch is no scalar.
    """
    key = jax.random.key(0)
    params = _traced(f"init of task {task.name}", task.init, key)
    for path, leaf in jax.tree.leaves_with_path(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise RaceError(
                f"task {task.name} has a parameter that cannot be trained: "
                f"{jax.tree_util.keystr(path)} is {_form(leaf)}"
            )
    batch = _traced(f"batch of task {task.name}", lambda: example(task))
    held_out = ((task.selection, "the selection batch"), (task.report, "the report batch"))
    for data, which in ((batch, "a batch"), *held_out):
        loss = _traced(f"loss of task {task.name} on {which}", task.loss, params, data)
        is_array = isinstance(loss, jax.ShapeDtypeStruct)
        if not is_array or loss.shape or not jnp.issubdtype(loss.dtype, jnp.floating):
            form = _form(loss) if is_array else type(loss).__name__
            raise RaceError(
                f"the loss of task {task.name} on {which} is {form}; it must be one "
                "floating-point number"
            )


def examine_entry(task: Task, entry: Entry, settings: Mapping[str, Any]) -> None:
    """Trace the first step of an entry.

    Raises:
        RaceError: It fails; it branches on the learning rate; its updates do not fit the
            parameters; its state changes its form, or does not tell which parameters to evaluate;
            or its schedule gives no number.
    """
    key = jax.random.key(0)
    params = jax.eval_shape(task.init, key)
    batch = example(task)

    def first_step(rate, params, batch):
        tx = entry.build(rate, **{n: value for n, value in settings.items() if n != RATE})
        state = jax.tree.map(jnp.asarray, tx.init(params))
        loss = jnp.float32(1)
        updates, after, _ = update_of(task, tx, params, state, params, loss, batch)
        return state, updates, after

    try:
        before, updates, after = jax.eval_shape(first_step, jnp.float32(0.01), params, batch)
    except NEEDS_A_VALUE as error:
        with_a_number = functools.partial(first_step, 0.01)
        raise _explained(entry, error, with_a_number, params, batch) from error
    except Exception as error:
        raise _failed(entry, error) from error
    _compare(f"the updates of {entry.name} do not fit the parameters", params, updates, _shape)
    _compare(f"{entry.name} changes the form of its state in a step", before, after, _form)
    _examine_schedule(task, entry)
    evaluated = _traced(f"the evaluation of {entry.name}", eval_params, after, params)
    _compare(f"what {entry.name} evaluates does not fit the parameters", params, evaluated, _shape)


def _examine_schedule(task: Task, entry: Entry) -> None:
    at = lambda step: entry.schedule(step, task.steps)
    share = _traced(f"the schedule of {entry.name}", at, jnp.int32(0))
    if not isinstance(share, jax.ShapeDtypeStruct) or share.shape:
        form = _form(share) if isinstance(share, jax.ShapeDtypeStruct) else type(share).__name__
        raise RaceError(
            f"the schedule of {entry.name} gives {form}; it must give one number, the share of the "
            "learning rate at a step"
        )


def examine_rate(compiled: Compiled, name: str) -> None:
    """Run a few updates with two learning rates.

    Raises:
        RaceError: Both lead to the same parameters.
    """
    grads = random_like(compiled.abstract.params)
    seed, count = jnp.int32(0), jnp.int32(16)
    rates = (jnp.float32(0.01), jnp.float32(0.02))
    run = compiled.start(rates[0], seed)
    one, other = (compiled.update(run, grads, rate, seed, count) for rate in rates)
    if all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), one, other))):
        raise RaceError(
            f"the learning rate makes no difference to {name}: does another parameter get "
            "it (name it learning_rate or lr), or is it kept in the state, as inject_hyperparams "
            "does? The factory is called with the rate of each step and must use it in update"
        )


def random_like(params: PyTree) -> PyTree:
    """Standard normal arrays of the given shapes and dtypes."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    return structure.unflatten(
        [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    )


def _traced(what: str, function: Callable, *args: Any) -> Any:
    try:
        return jax.eval_shape(function, *args)
    except Exception as error:
        raise RaceError(f"{what} fails: {_summary(error)}") from error


def _explained(
    entry: Entry, error: Exception, with_a_number: Callable, params: PyTree, batch: PyTree
) -> RaceError:
    """Tell a branch on the learning rate from a branch on any other traced value."""
    try:
        jax.eval_shape(with_a_number, params, batch)
    except Exception:
        return _failed(entry, error)
    return RaceError(
        f"{entry.name} branches on the learning rate, or makes a Python number of it. A race "
        "compiles an entry once for all rates, so the rate is traced: compute with jax.numpy "
        "(jnp.where instead of if), and check arguments only where they are Python numbers"
    )


def _failed(entry: Entry, error: Exception) -> RaceError:
    return RaceError(
        f"{entry.name} fails in its first step: {_summary(error)}; "
        "`gradsmith check` tells more about an optimizer that does not work"
    )


def _compare(what: str, old: PyTree, new: PyTree, form: Callable[[Any], str]) -> None:
    if jax.tree.structure(old) != jax.tree.structure(new):
        raise RaceError(f"{what}: {jax.tree.structure(old)} became {jax.tree.structure(new)}")
    for (path, a), b in zip(jax.tree.leaves_with_path(old), jax.tree.leaves(new), strict=True):
        if form(a) != form(b):
            name = jax.tree_util.keystr(path) or "the only leaf"
            raise RaceError(f"{what}: {name} became {form(b)} from {form(a)}")


def _summary(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no message'}"


def _shape(leaf) -> str:
    return f"[{','.join(map(str, leaf.shape))}]"


def _form(leaf) -> str:
    return f"{leaf.dtype}{_shape(leaf)}"
