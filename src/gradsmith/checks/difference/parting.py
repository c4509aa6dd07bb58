"""Whether two runs are the same but for rounding, and where they part.

How much rounding may do is measured: the inputs are changed in their last bit, and the updates
change by so much. An optimizer that computes in float32 or bfloat16, whatever it is given, is told
by larger changes: while they are smaller than its own rounding, they do not act in proportion.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..rounding import FACTOR
from .ground import Ground
from .sides import Side, Updates

CHANGES = 2.0 ** -np.arange(8, 50, 6)
"""Relative changes of the inputs, the largest first."""
PROPORTION = 4.0
ROUGHEST = 0.1
"""The most that is forgiven an optimizer's own rounding, over its updates: bfloat16 needs it."""


class Parting(NamedTuple):
    """The first place where a leaf is not the same.

    Attributes:
        step: The step, from 1.
        times_rounding: The difference there over what rounding may do.
        relative: The largest difference of all steps over the largest update.
    """

    step: int
    times_rounding: float
    relative: float


def rounding(side: Side, ground: Ground, plain: Updates) -> Updates:
    """Return what rounding may do to each leaf in each step: arrays `(T,)`."""
    eps = float(jnp.finfo(jax.tree.leaves(ground.params)[0].dtype).eps)
    last_bit = _change(side, ground, plain, eps)
    larger = [change for change in CHANGES if change > PROPORTION * eps]
    responses = [_change(side, ground, plain, change) for change in larger]
    largest_param = [np.abs(x).max(initial=0.0) for x in jax.tree.leaves(ground.params)]
    allowed = []
    for leaf, update in enumerate(plain):
        size = sizes(update)
        part = lambda change: float(np.max(change / np.maximum(size, 1e-300), initial=0.0))  # noqa: B023
        own = _own_rounding(larger, [part(response[leaf]) for response in responses])
        noise = np.maximum(FACTOR * last_bit[leaf], min(FACTOR * own, ROUGHEST) * size)
        largest = max(size.max(initial=0.0), largest_param[leaf] if side.subtracts else 0.0)
        allowed.append(noise + FACTOR * eps * largest)
    return allowed


def _own_rounding(changes: list[float], responses: list[float]) -> float:
    """Return what the smallest change does that an optimizer answers in proportion; 0 if all are.

    In proportion to what the largest change does.
    """
    if not changes or not responses[0]:
        return 0.0
    slope = responses[0] / changes[0]
    ratios = [
        response / (slope * change) for change, response in zip(changes, responses, strict=True)
    ]
    strange = [i for i, ratio in enumerate(ratios) if not 1 / PROPORTION < ratio < PROPORTION]
    return responses[strange[0] - 1] if strange else 0.0


def _change(side: Side, ground: Ground, plain: Updates, relative: float) -> Updates:
    runs = [side.updates(ground.perturbed(relative, seed)) for seed in (0, 1)]
    of = lambda leaf: np.max([sizes(run[leaf] - plain[leaf]) for run in runs], axis=0)
    return [of(leaf) for leaf in range(len(plain))]


def sizes(update: np.ndarray) -> np.ndarray:
    """Return the largest magnitude in each step; infinite where it is no number."""
    each = np.abs(update).reshape(len(update), -1).max(axis=1, initial=0.0)
    return np.nan_to_num(each.astype(np.float64), nan=np.inf)


def parting(a: np.ndarray, b: np.ndarray, allowed: np.ndarray) -> Parting | None:
    """Return where the updates of a leaf part; None where they are the same but for rounding."""
    both = ~(np.isnan(a) & np.isnan(b))
    apart = sizes(np.where(both, a - b, 0.0))
    beyond = apart > allowed
    if not beyond.any():
        return None
    step = int(np.argmax(beyond))
    largest = max(sizes(a).max(), sizes(b).max())
    times = apart[step] / allowed[step] if allowed[step] else np.inf
    relative = apart.max() / largest if 0 < largest < np.inf else np.inf
    return Parting(step + 1, float(times), float(relative))
