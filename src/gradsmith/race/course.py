"""One run of a race, from its start or its last checkpoint to its end."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .checkpoints import Checkpoints
from .compiled import Compiled, RunState
from .display import Display
from .protocol import Run
from .tasks import Task

POINTS = 20  # of a curve, after its start


class Course(NamedTuple):
    """A run so far; what a checkpoint holds."""

    state: RunState
    curve: Float[np.ndarray, "points 2"]  # mean training loss, validation loss; NaN where to come
    seconds: np.ndarray  # spent so far, a scalar


def curve_steps(steps: int) -> list[int]:
    """The steps after which a run is validated, from 0 to the last, about equally far apart.

    Examples:
        >>> curve_steps(3), curve_steps(50)[:4], len(curve_steps(400))
        ([0, 1, 2, 3], [0, 2, 5, 7], 21)
    """
    points = min(POINTS, steps)
    return [steps * i // points for i in range(points + 1)]


def train(
    task: Task,
    compiled: Compiled,
    evaluate: Callable,
    run: Run,
    checkpoints: Checkpoints,
    checkpoint_seconds: float,
    display: Display,
) -> Course:
    """Go on with `run` from its checkpoint, if there is one, to its last step or divergence."""
    rate, seed = jnp.float32(run.rate), jnp.int32(run.seed)
    steps = curve_steps(task.steps)
    state = compiled.start(rate, seed)
    curve = np.full((len(steps), 2), np.nan, np.float32)
    curve[0, 1] = evaluate(state.params, task.validation)
    course = Course(state, curve, np.zeros(()))
    course = checkpoints.load(course) or course
    before = saved = time.perf_counter()
    for point in range(1, len(steps)):
        if steps[point] <= course.state.step or course.state.diverged_at:
            continue
        course = _advance(task, compiled, evaluate, rate, seed, course, point, steps[point])
        now = time.perf_counter()
        course = course._replace(seconds=course.seconds + (now - before))
        display.advance(steps[point], float(course.curve[point, 1]), now - before)
        before = now
        if now - saved >= checkpoint_seconds:
            checkpoints.save(steps[point], course)
            saved = now
    return course


def _advance(task, compiled, evaluate, rate, seed, course, point: int, step: int) -> Course:
    state, training_loss = compiled.advance(course.state, rate, seed, jnp.int32(step))
    validation_loss = evaluate(state.params, task.validation)
    curve = course.curve.copy()
    curve[point] = training_loss, validation_loss
    in_bounds = np.isfinite(curve[point, 1]) and curve[point, 1] <= task.bound
    if not state.diverged_at and not in_bounds:  # the last update spoiled the parameters
        state = state._replace(diverged_at=state.step)
    return course._replace(state=state, curve=curve)
