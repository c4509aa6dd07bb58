"""Look inside the optimizer of a run, without touching the run: on a copy that is thrown away.

Before each part of a run the first two steps of that part are made on a copy of its state, by the
optimizer inside a `watch`. The first is what the second is compared with, and the second is read.
So these are the steps that the run makes next, with its own batches and learning rates, and the
program that makes them for the record never changes.
"""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from .compiled import RunState, entry_functions
from .entries import Entry
from .feeding import fed
from .folder import replace_bytes
from .mesh import on, placed, places, sharing
from .points import curve_steps
from .protocol import Run
from .tasks import Task

Watch = Callable[..., optax.GradientTransformation]
"""`gradsmith.watch`, or what is called as it is, `watch(tx, every=2)`, and has a state with the
fields `inner_state`, that of `tx`, `readings`, arrays by name, and `kept`, what they compare with;
without them all zeros is how it begins."""

STEPS = 2  # of the copy: one to compare with, one that is read
DIGITS = 6  # float32 has no more


class Seen(NamedTuple):
    """What was read along a run so far; a part of its checkpoint.

    Without a watcher there are no numbers and no memory.
    """

    rows: Float[np.ndarray, "parts numbers"]  # by part of the run; NaN where nothing was read
    memory: PyTree  # what the next reading is compared with
    seconds: np.ndarray  # that reading took, a scalar


def nothing_seen(task: Task, watcher: "Watcher | None") -> Seen:
    """What was read when a run starts."""
    numbers, memory = (watcher.numbers, watcher.blank) if watcher else (0, ())
    parts = len(curve_steps(task.steps)) - 1
    return Seen(np.full((parts, numbers), np.nan, np.float32), memory, np.zeros(()))


class Watcher:
    """Looks inside one entry with one choice of settings; compiled once for all rates and seeds.

    It takes the memory of a second state of the run.

    Args:
        task: What is minimised.
        entry: By whom.
        settings: With what, the rate apart.
        watch: What is put around the optimizer.
        mesh: The devices of the run, if there are several.
    """

    def __init__(
        self,
        task: Task,
        entry: Entry,
        settings: Mapping[str, Any],
        watch: Watch,
        mesh: Mesh | None = None,
    ):
        def build(rate, **others) -> optax.GradientTransformation:
            return watch(entry.build(rate, **others), every=STEPS)

        watched = dataclasses.replace(entry, build=build)
        start, advance, _ = entry_functions(sharing(task, mesh), watched, settings)
        rate, seed = jnp.float32(0), jnp.int32(0)
        with on(mesh):
            abstract = placed(jax.eval_shape(start, rate, seed), mesh)
        zeros = lambda tree: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), tree)
        shapes = abstract.optimizer._replace(inner_state=())
        kept = places(shapes.kept)
        self._shapes = {name: x.shape for name, x in sorted(shapes.readings.items())}
        self._steps = task.steps
        self.blank = jax.tree.map(jax.device_put, zeros(shapes.kept), kept)

        def look(run: RunState, kept: PyTree, rate, seed, portion: PyTree) -> tuple[Array, PyTree]:
            state = zeros(shapes)._replace(inner_state=run.optimizer, kept=kept)
            copy = run._replace(optimizer=state)
            end, _ = advance(copy, rate, seed, run.step + STEPS, portion)
            found = [jnp.ravel(end.optimizer.readings[name]) for name in self._shapes]
            row = jnp.concatenate(found).astype(jnp.float32)
            return jnp.where(end.diverged_at == 0, row, jnp.nan), end.optimizer.kept

        run = abstract._replace(optimizer=abstract.optimizer.inner_state)
        looking = jax.jit(look, out_shardings=(None, kept))
        with on(mesh):
            self._look = looking.lower(run, self.blank, rate, seed, fed(task)).compile()

    @property
    def numbers(self) -> int:
        """How many numbers are read at a time."""
        return sum(map(math.prod, self._shapes.values()))

    def __call__(self, seen: Seen, part: int, run: RunState, rate, seed, portion: PyTree) -> Seen:
        """Read what the run does at the start of a part, if there are enough steps left.

        Args:
            seen: What was read before.
            part: Its number, from 0.
            run: At the start of the part; it is not consumed.
            rate: The peak learning rate.
            seed: Of the run.
            portion: What the part is fed with; of a single batch, it is had twice.
        """
        if run.step + STEPS > self._steps:
            return seen
        start = time.perf_counter()
        row, memory = jax.block_until_ready(self._look(run, seen.memory, rate, seed, portion))
        rows = seen.rows.copy()
        rows[part] = row
        return Seen(rows, memory, seen.seconds + (time.perf_counter() - start))

    def write(self, path: Path, seen: Seen, run: Run) -> None:
        """Write the readings of a whole run, a line each: all, or nothing at a kill.

        Args:
            path: The file of this run.
            seen: What was read.
            run: Which run it is.
        """
        parts = zip(curve_steps(self._steps), seen.rows, strict=False)
        lines = [
            {**run._asdict(), "step": start + STEPS, "values": self._named(row)}
            for start, row in parts
            if not np.isnan(row).all()
        ]
        replace_bytes(path, b"".join(json.dumps(line).encode() + b"\n" for line in lines))

    def _named(self, row: Float[np.ndarray, " numbers"]) -> dict[str, Any]:
        ends = np.cumsum([math.prod(shape) for shape in self._shapes.values()])[:-1]
        values = zip(self._shapes.items(), np.split(row, ends), strict=True)
        return {name: _digits(value.reshape(shape).tolist()) for (name, shape), value in values}


def _digits(value: Any) -> Any:
    if isinstance(value, list):
        return list(map(_digits, value))
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
