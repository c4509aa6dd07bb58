"""Whether two runs are the same but for rounding, and where they part.

How much rounding may do is measured: the inputs are changed in their last bit, and the updates
change by so much. Where an optimizer computes with narrower arrays than it is given, as torch's
Muon does in bfloat16, the last bit is that of these arrays.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..rounding import FACTOR
from .ground import Ground
from .sides import Side, Updates

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
    params = jax.tree.leaves(ground.params)
    eps = float(jnp.finfo(params[0].dtype).eps)
    own = side.eps(ground)
    last_bit = _changes(side, ground, plain, eps)
    own_bit = _changes(side, ground, plain, own) if own > eps else [np.zeros(1)] * len(plain)
    allowed = []
    for leaf, update in enumerate(plain):
        size = sizes(update)
        part = np.max(own_bit[leaf] / np.maximum(size, 1e-300), initial=0.0)
        noise = np.maximum(FACTOR * last_bit[leaf], min(FACTOR * part, ROUGHEST) * size)
        param = np.abs(params[leaf]).max(initial=0.0) if side.subtracts else 0.0
        allowed.append(noise + FACTOR * eps * max(size.max(initial=0.0), param))
    return allowed


def _changes(side: Side, ground: Ground, plain: Updates, relative: float) -> Updates:
    """Return what a change of all inputs does to each leaf, at most, in each step."""
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
