"""One run of a race, from its start or its last checkpoint to its end."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from .checkpoints import Checkpoints, DamagedCheckpointError
from .compiled import Compiled, RunState
from .display import Display
from .feeding import Feed
from .points import curve_steps
from .processes import agreed, as_it_lies, is_first, whole
from .tasks import Task
from .watching import Seen, Watcher, nothing_seen


class Course(NamedTuple):
    """A run so far; what a checkpoint holds."""

    state: RunState
    curve: Float[np.ndarray, "points 2"]  # mean training loss, validation loss; NaN where to come
    passes: Int[np.ndarray, " points"]  # forward and backward together; 0 where to come
    seconds: np.ndarray  # spent so far, a scalar
    stepping: np.ndarray  # of them, in steps
    seen: Seen  # inside the optimizer; its seconds are none of those above


def train(
    task: Task,
    compiled: Compiled,
    evaluate: Callable,
    rate: float,
    seed: int,
    checkpoints: Checkpoints,
    checkpoint_seconds: float,
    display: Display,
    watcher: Watcher | None = None,
) -> Course:
    """Go on from the checkpoint, if there is one, to the last step or divergence.

    Args:
        task: What is minimised.
        compiled: By whom.
        evaluate: The held-out loss of the parameters that the state says to evaluate.
        rate: The peak learning rate.
        seed: Of parameters and batches.
        checkpoints: Of this run.
        checkpoint_seconds: Time between two of them.
        display: Who hears of the progress.
        watcher: Who looks inside the optimizer, before each part of the run.
    """
    rate, seed = jnp.float32(rate), jnp.int32(seed)
    steps = curve_steps(task.steps)
    begun = _begin(compiled, evaluate, rate, seed, len(steps), nothing_seen(task, watcher))
    course = _stored(checkpoints, begun, display) or begun
    feed = Feed(task, int(seed), int(course.state.step))
    before = saved = time.perf_counter()
    for point in range(1, len(steps)):
        if steps[point] <= course.state.step or course.state.diverged_at:
            continue
        portion = feed.until(steps[point])
        if watcher:
            looking = time.perf_counter()
            seen = watcher(course.seen, point - 1, course.state, rate, seed, portion)
            course = course._replace(seen=seen)
            before += time.perf_counter() - looking
        course = _advance(
            task, compiled, evaluate, rate, seed, portion, course, point, steps[point]
        )
        now = time.perf_counter()
        course = course._replace(seconds=course.seconds + (now - before))
        display.advance(steps[point], float(course.curve[point, 1]), now - before)
        before = now
        if agreed(now - saved >= checkpoint_seconds):
            kept = whole(course)
            if is_first():
                _save(checkpoints, steps[point], kept, display)
            saved = now
    return course


def _begin(compiled: Compiled, evaluate, rate, seed, points: int, seen: Seen) -> Course:
    state = compiled.start(rate, seed)
    curve = np.full((points, 2), np.nan, np.float32)
    curve[0, 1] = evaluate(compiled.evaluated(state))
    return Course(state, curve, np.zeros(points, np.int32), np.zeros(()), np.zeros(()), seen)


def _stored(checkpoints: Checkpoints, like: Course, display: Display) -> Course | None:
    form = whole(like)
    found = agreed(jax.tree.leaves(_loaded(checkpoints, form, display)) if is_first() else None)
    if not found:
        return None
    return as_it_lies(jax.tree.structure(like).unflatten(found), like)


def _loaded(checkpoints: Checkpoints, like: Course, display: Display) -> Course | None:
    try:
        return checkpoints.load(like)
    except DamagedCheckpointError as error:
        aside = checkpoints.move_aside()
        display.remark(
            f"the checkpoint of this run is of no use ({error}); it is in {aside} now, and the run "
            "starts again"
        )
        return None


def _save(checkpoints: Checkpoints, step: int, course: Course, display: Display) -> None:
    try:
        checkpoints.save(step, course)
    except Exception as error:  # such as a full disk; Orbax and TensorStore have their own each
        summary = str(error).strip().splitlines() or [type(error).__name__]
        display.remark(f"no checkpoint was written at step {step} ({summary[0]}); the run goes on")


def _advance(
    task, compiled, evaluate, rate, seed, portion, course, point: int, step: int
) -> Course:
    start = time.perf_counter()
    advanced = compiled.advance(course.state, rate, seed, jnp.int32(step), portion)
    state, training_loss = jax.block_until_ready(advanced)
    stepping = course.stepping + (time.perf_counter() - start)
    validation_loss = evaluate(compiled.evaluated(state))
    curve, passes = course.curve.copy(), course.passes.copy()
    curve[point] = training_loss, validation_loss
    passes[point] = state.passes.sum()
    in_bounds = np.isfinite(curve[point, 1]) and curve[point, 1] <= task.bound
    if not state.diverged_at and not in_bounds:  # the last update spoiled the parameters
        state = state._replace(diverged_at=state.step)
    return Course(state, curve, passes, course.seconds, stepping, course.seen)
