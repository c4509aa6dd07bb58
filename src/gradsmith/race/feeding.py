"""Where the batch of a step comes from: a random key, or the host.

Batches of the host go to the device in portions, one for each point of the curve, so that a run is
the same loop on the device and has a twentieth of its data in memory.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from .errors import RaceError
from .points import curve_steps
from .tasks import Batch, Stream, Task


def example(task: Task) -> Batch:
    """The form of a batch; of a stream, its first one.

    Raises:
        RaceError: A stream has no first one.
    """
    if not isinstance(task.batch, Stream):
        return jax.eval_shape(task.batch, jax.random.key(0))
    if task.batch.first is None:
        raise RaceError(f"the stream of task {task.name} has no batch at seed 0")
    return task.batch.first


def fed(task: Task) -> PyTree:
    """The form of a portion: batches one after the other along a first axis, or nothing."""
    if not isinstance(task.batch, Stream):
        return ()
    form = lambda leaf: jax.ShapeDtypeStruct((_most(task), *np.shape(leaf)), np.asarray(leaf).dtype)
    return jax.tree.map(form, example(task))


def batch_of(task: Task, portion: PyTree, place: jax.Array, key: PRNGKeyArray) -> Batch:
    """The batch of a step; traced.

    Args:
        task: The task.
        portion: Of the batches of the host, what this part of the run is fed with.
        place: Of the step in the part.
        key: Of the step.
    """
    if not isinstance(task.batch, Stream):
        return task.batch(key)
    return jax.tree.map(lambda leaf: leaf[place], portion)


class Feed:
    """What the parts of one run are fed with, one after the other.

    Args:
        task: The task.
        seed: Of the run.
        step: How many steps of it are done.
    """

    def __init__(self, task: Task, seed: int, step: int):
        self._task, self._step = task, step
        self._batches: Iterator[Batch] | None = None
        if isinstance(task.batch, Stream):
            self._form, self._batches = _form(example(task)), task.batch.after(seed, step)

    def until(self, step: int) -> PyTree:
        """The next portion: the batches of all steps before `step`.

        Raises:
            RaceError: The stream ends before, or has a batch of another form than its first.
        """
        if self._batches is None:
            return ()
        batches = []
        for number in range(self._step, step):
            batch = next(self._batches, None)
            if batch is None:
                raise RaceError(
                    f"the stream of task {self._task.name} ends after {number} of "
                    f"{self._task.steps} batches: let it begin again, or ask for fewer steps"
                )
            self._refuse_another_form(batch, number)
            batches.append(batch)
        self._step = step
        batches += [batches[-1]] * (_most(self._task) - len(batches))  # one program for all parts
        return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *batches)

    def _refuse_another_form(self, batch: Batch, number: int) -> None:
        if (form := _form(batch)) != self._form:
            raise RaceError(
                f"batch {number} of the stream of task {self._task.name} has the form "
                f"{form}, the first one {self._form}: all must be alike"
            )


def _most(task: Task) -> int:
    """Batches between two points of the curve, at most."""
    return max(b - a for a, b in itertools.pairwise(curve_steps(task.steps)))


def _form(batch: Batch) -> Any:
    arrays = jax.tree.map(np.asarray, batch)
    return str(jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", arrays))
