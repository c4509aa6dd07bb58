"""Measure one optimizer on a model of several widths: do sizes and learning rate carry over.

Two looks side by side. The *coordinate check* asks how large what the first steps change is, by
width: the updates, and the activations (https://arxiv.org/abs/2203.03466, appendix D). The
*transfer curve* asks at which learning rate each width ends lowest. A check that is passed does not
imply transfer, and only the curve shows it.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .compiled import lower_entry
from .display import Display
from .entries import Entry
from .errors import RaceError, enough_memory
from .executors import Executor
from .feeding import Feed, batch_of
from .products import products
from .protocol import Protocol, Race
from .records import Record
from .run import run_race
from .space import RATE
from .tasks import Task

CHECKED_STEPS = 5  # after which the sizes are measured
LEVEL = 0.25  # a power of the width beyond which a size is said to depend on it


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large something is at each width.

    Args:
        name: What: the path of a parameter, or a product of the model with the axes of its result.
        sizes: Root mean square of its change in the first steps, one a width.
    """

    name: str
    sizes: tuple[float, ...]

    def power(self, widths: Sequence[int]) -> float:
        """The power of the width that the size grows with; NaN where one of them is zero.

        Examples:
            >>> print(Sizes("up", (0.1, 0.2, 0.4)).power([64, 128, 256]))
            1.0
        """
        if not all(size > 0 and math.isfinite(size) for size in self.sizes):
            return math.nan
        slope = np.polyfit(np.log2(widths), np.log2(self.sizes), 1)[0]
        return round(float(slope), 6) + 0.0  # no zero with a sign


@dataclasses.dataclass(frozen=True)
class Widths:
    """What an entry does at several widths.

    Args:
        entry: Its name.
        task: The name of the task.
        widths: Ascending.
        rate: The learning rate of the coordinate check.
        updates: Of the parameters.
        activations: Of the products of the model on a batch that is not trained on.
        losses: By learning rate, the mean final loss at each width; infinite where it diverged.
    """

    entry: str
    task: str
    widths: tuple[int, ...]
    rate: float
    updates: tuple[Sizes, ...]
    activations: tuple[Sizes, ...]
    losses: Mapping[float, tuple[float, ...]]

    def best(self) -> tuple[float, ...]:
        """The learning rate that ends lowest at each width."""
        places = range(len(self.widths))
        return tuple(min(self.losses, key=lambda rate: self.losses[rate][i]) for i in places)


def race_widths(
    make_task: Callable[[int], Task],
    widths: Sequence[int],
    entry: Entry,
    rates: Sequence[float],
    path: Path,
    seeds: int = 1,
    display: Display | None = None,
    executor: Executor | None = None,
) -> Widths:
    """Measure both, in races of one entry: each width in a folder of its own.

    After a kill the same call continues, as `run_race` does. The coordinate check takes the middle
    one of the rates. The loss is that on the selection data.

    Args:
        make_task: From a width to the task.
        widths: At least two.
        entry: Who. It is tuned over the learning rate alone.
        rates: Learning rates of every width.
        path: The folder of all.
        seeds: Of each learning rate.
        display: Who is told about the progress; see `run_race`.
        executor: Where the runs are computed; see `run_race`. The first look is taken here.

    Raises:
        RaceError: There are fewer than two widths or three rates, the model has other leaves or
            products at another width, or a race cannot be held.
    """
    widths, rates = sorted(set(widths)), sorted(set(rates))
    if len(widths) < 2 or widths[0] < 1:
        raise RaceError(f"to compare widths takes at least two of them, got {widths}")
    if len(rates) < 3:
        raise RaceError(f"a transfer curve takes at least three learning rates, got {rates}")
    others = [name for name in entry.space if name != RATE]
    if others:
        raise RaceError(f"{entry.name} is tuned over {', '.join(others)}: give one value of each")
    tasks = {width: make_task(width) for width in widths}
    rate = rates[len(rates) // 2]
    with enough_memory(entry.name):
        sizes = [changes(task, entry, rate) for task in tasks.values()]
    updates, activations = zip(*sizes, strict=True)
    protocol = Protocol(tuning_seeds=seeds, seeds=1, extensions=0)
    entry = dataclasses.replace(entry, space={})
    of_width = []
    for width, task in tasks.items():
        race = Race(task, (entry,), tuple(rates), protocol)
        folder = path / f"width-{width}"
        of_width.append(final_losses(run_race(race, folder, display, executor=executor)))
    return Widths(
        entry=entry.name,
        task=next(iter(tasks.values())).name,
        widths=tuple(widths),
        rate=rate,
        updates=_side_by_side(updates, widths),
        activations=_side_by_side(activations, widths),
        losses={rate: tuple(own[rate] for own in of_width) for rate in rates},
    )


def changes(task: Task, entry: Entry, rate: float) -> tuple[dict[str, float], dict[str, float]]:
    """How far the first steps of a run move each parameter and each product of the model.

    Args:
        task: Of one width.
        entry: Who moves.
        rate: The learning rate, without a schedule.

    Returns:
        Root mean squares of the changes by name: of parameters, and of products on the batch after.
    """
    steady = dataclasses.replace(entry, schedule=_steady)
    program = lower_entry(task, steady, {}).compile()
    seed, feed = jnp.int32(0), Feed(task, 0, 0)
    start = program.start(jnp.float32(rate), seed)
    before, run = start.params, jax.tree.map(jnp.copy, start)
    for step in range(1, CHECKED_STEPS + 1):
        run, _ = program.advance(run, jnp.float32(rate), seed, jnp.int32(step), feed.until(step))
    batch = batch_of(task, feed.until(CHECKED_STEPS + 1), jnp.int32(0), jax.random.key(1))
    moved = jax.tree.map(lambda new, old: new - old, run.params, before)
    updates = {
        jax.tree_util.keystr(path, simple=True, separator="/"): _size(leaf)
        for path, leaf in jax.tree.leaves_with_path(moved)
    }
    then, now = (products(task.loss, params, batch) for params in (before, run.params))
    return updates, {name: _size(now[name] - then[name]) for name in now}


def final_losses(records: list[Record]) -> dict[float, float]:
    """By learning rate, the mean final loss in tuning; infinite where a run diverged."""
    found: dict[float, list[float]] = {}
    for record in records:
        if record.seed < 0:
            loss = math.inf if record.validation_loss is None else record.validation_loss
            found.setdefault(record.rate, []).append(loss)
    return {rate: statistics.fmean(losses) for rate, losses in found.items()}


def depending(found: Sequence[Sizes], widths: Sequence[int]) -> list[str]:
    """The names of those whose size goes with a power of the width beyond the level."""
    return [one.name for one in found if abs(one.power(widths)) > LEVEL]


def _side_by_side(found: Sequence[Mapping[str, float]], widths: Sequence[int]) -> tuple[Sizes, ...]:
    for width, own in zip(widths, found, strict=True):
        if own.keys() != found[0].keys():
            odd = sorted(own.keys() ^ found[0].keys())
            raise RaceError(
                f"the model of width {width} is another one than that of {widths[0]}: "
                f"{', '.join(odd[:3])} is in one of them only"
            )
    return tuple(Sizes(name, tuple(own[name] for own in found)) for name in found[0])


def _steady(step: Any, steps: int) -> Any:
    """The same learning rate at every step."""
    del steps
    return jnp.ones_like(step, jnp.float32)


def _size(array: PyTree) -> float:
    return float(jnp.sqrt(jnp.mean(jnp.square(array.astype(jnp.float32)))))
