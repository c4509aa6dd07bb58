"""One entry on one task, compiled once: learning rate, seed and step are traced."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..readout import eval_params
from .entries import Entry
from .feeding import batch_of, fed
from .fingerprint import program_fingerprint
from .mesh import placed, places
from .space import RATE
from .tasks import Task

START, BATCHES = 0, 1  # the two streams of random keys that a seed has


class RunState(NamedTuple):
    """Where a run is: what its next step depends on, and how much it has computed."""

    params: PyTree
    optimizer: PyTree
    step: jax.Array  # finished steps, int32
    diverged_at: jax.Array  # the step (from 1) whose loss was out of bounds, 0 while none was
    passes: jax.Array  # forward and backward passes through the model so far, int32


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The compiled functions of one entry on one task.

    Args:
        start: `(rate, seed) -> RunState`.
        advance: `(RunState, rate, seed, until, portion) -> (RunState, mean training loss)`; ends
            early at the step that diverges. The given state is consumed; the portion is what
            `feeding.Feed` makes.
        update: `(RunState, noise, rate, seed, count) -> params`, without the model: `count`
            updates, whose gradients are `noise + params`, so that no two are the same.
        evaluated: `RunState -> params` to evaluate, which the state of the optimizer may know.
        abstract: Shapes and dtypes of a `RunState`, with the places of a mesh.
    """

    start: Callable[..., RunState]
    advance: Callable[..., tuple[RunState, jax.Array]]
    update: Callable[..., PyTree]
    evaluated: Callable[[RunState], PyTree]
    abstract: RunState


@dataclasses.dataclass(frozen=True)
class Program:
    """The same functions before they are compiled.

    Args:
        start: Lowered; see `Compiled`.
        advance: Lowered.
        update: Lowered.
        evaluated: Lowered.
        abstract: Shapes and dtypes of a `RunState`, with the places of a mesh.
    """

    start: jax.stages.Lowered
    advance: jax.stages.Lowered
    update: jax.stages.Lowered
    evaluated: jax.stages.Lowered
    abstract: RunState

    def compile(self) -> Compiled:
        """Compile all four."""
        return Compiled(
            self.start.compile(),
            self.advance.compile(),
            self.update.compile(),
            self.evaluated.compile(),
            self.abstract,
        )

    def fingerprint(self) -> str | None:
        """What decides the outcome of a run, as a hash; None if Python code takes part in it."""
        return program_fingerprint(self.start, self.advance, self.evaluated)


def lower_entry(
    task: Task, entry: Entry, settings: Mapping[str, Any], mesh: Mesh | None = None
) -> Program:
    """The program of `entry` on `task`, one for every learning rate, seed and number of steps.

    All other settings are part of the program, and so is the place of every array on the `mesh`.
    """
    start, advance, update = entry_functions(task, entry, settings)
    rate, seed, count = jnp.float32(0), jnp.int32(0), jnp.int32(0)
    abstract, portion = placed(jax.eval_shape(start, rate, seed), mesh), fed(task)
    there = places(abstract)
    go_on = jax.jit(advance, donate_argnums=0, out_shardings=(there, None))
    return Program(
        start=jax.jit(start, out_shardings=there).lower(rate, seed),
        advance=go_on.lower(abstract, rate, seed, count, portion),
        update=jax.jit(update).lower(abstract, abstract.params, rate, seed, count),
        evaluated=jax.jit(_evaluated, out_shardings=there.params).lower(abstract),
        abstract=abstract,
    )


def entry_functions(
    task: Task, entry: Entry, settings: Mapping[str, Any]
) -> tuple[Callable[..., RunState], Callable[..., tuple[RunState, jax.Array]], Callable]:
    """The functions of a `Compiled`, in its order, before they are traced.

    The factory is called inside the traced step, with the scalar rate of that step: it need not
    know of schedules, and no optimizer depends on a step counter of its own.
    """

    def build(rate) -> optax.GradientTransformation:
        others = {name: value for name, value in settings.items() if name != RATE}
        return entry.build(rate, **others)

    def start(rate, seed) -> RunState:
        params = _strongly_typed(task.init(_key(seed, START)))
        state = _strongly_typed(build(rate).init(params))
        return RunState(params, state, jnp.int32(0), jnp.int32(0), jnp.zeros(2, jnp.int32))

    def step(run: RunState, rate, seed, portion, place) -> tuple[RunState, jax.Array]:
        batch = batch_of(task, portion, place, jax.random.fold_in(_key(seed, BATCHES), run.step))
        loss, grads = jax.value_and_grad(task.loss)(run.params, batch)
        now = rate * entry.schedule(run.step, task.steps)
        updates, state, more = update_of(
            task, build(now), grads, run.optimizer, run.params, loss, batch
        )
        params = optax.apply_updates(run.params, updates)
        diverged = ~(jnp.isfinite(loss) & (loss <= task.bound))
        finished = run.step + 1
        diverged_at = jnp.where(diverged, finished, run.diverged_at)
        after = RunState(params, state, finished, diverged_at, run.passes + 1 + more)
        return after, loss.astype(jnp.float32)

    def advance(run: RunState, rate, seed, until, portion) -> tuple[RunState, jax.Array]:
        first = run.step

        def running(carry):
            run, _ = carry
            return (run.step < until) & (run.diverged_at == 0)

        def one(carry):
            run, total = carry
            run, loss = step(run, rate, seed, portion, run.step - first)
            return run, total + loss

        end, total = jax.lax.while_loop(running, one, (run, jnp.float32(0)))
        return end, total / jnp.maximum(end.step - run.step, 1).astype(jnp.float32)

    def update(run: RunState, noise, rate, seed, count) -> PyTree:
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), fed(task))
        batch = batch_of(task, nothing, jnp.int32(0), _key(seed, BATCHES))

        def one(_, carry):
            params, state = carry
            # Gradients that were the same every time would let XLA compute a formula without a
            # state once, before the loop.
            grads = jax.tree.map(jnp.add, noise, params)
            updates, state, _ = update_of(
                task, build(rate), grads, state, params, jnp.float32(1), batch
            )
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, count, one, (run.params, run.optimizer))[0]

    return start, advance, update


def update_of(
    task: Task,
    tx: optax.GradientTransformation,
    grads: PyTree,
    state: Any,
    params: PyTree,
    loss: Float[Array, ""],
    batch: Any,
) -> tuple[PyTree, Any, Int[Array, "2"]]:
    """The updates of one step, the new state, and the forward and backward passes it took.

    Optimizers that take extra arguments get the loss, the gradient and the loss function, as
    those that search along a line need them. Each use of that function is counted, where and as
    often as it runs.
    """
    passes = jax.new_ref(jnp.zeros(2, jnp.int32))

    @jax.custom_jvp
    def differentiable(params):
        return params

    @differentiable.defjvp
    def _(primals, tangents):
        passes[1] += 1
        return primals[0], tangents[0]

    def value_fn(params):
        passes[0] += 1
        return task.loss(differentiable(params), batch)

    updates, state = optax.with_extra_args_support(tx).update(
        grads, state, params, value=loss, grad=grads, value_fn=value_fn
    )
    return updates, state, jax.freeze(passes)


def _evaluated(run: RunState) -> PyTree:
    return eval_params(run.optimizer, run.params)


def _key(seed, stream: int) -> PRNGKeyArray:
    return jax.random.fold_in(jax.random.key(seed), stream)


def _strongly_typed(tree: PyTree) -> PyTree:
    """Give every leaf the type that it has after a step, so that one program fits all steps."""

    def strong(leaf):
        leaf = jnp.asarray(leaf)
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return leaf if is_key else jax.lax.convert_element_type(leaf, leaf.dtype)

    return jax.tree.map(strong, tree)
