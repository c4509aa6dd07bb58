"""Batches that the host makes: data that do not fit in memory, or come from any iterator."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator

from jaxtyping import PyTree

Batch = PyTree


@dataclasses.dataclass(frozen=True)
class Stream:
    """What a task has for `batch` when the host makes the batches.

    The race takes one batch a step, in order. A run that was stopped opens the iterator again and
    passes over what it has had, so the same seed must give the same batches every time.

    Args:
        open: `seed -> iterator` of batches, pytrees of NumPy arrays of one shape and dtype; at
            least as many as a run has steps. Seeds of tuning are below zero.

    Examples:
        >>> import numpy as np
        >>> counting = Stream(lambda seed: (np.full(2, i) for i in range(100)))
        >>> next(counting.after(0, 7))
        array([7, 7])
    """

    open: Callable[[int], Iterator[Batch]]

    @functools.cached_property
    def first(self) -> Batch | None:
        """The first batch at seed 0, whose form all have; None if there is none."""
        return next(self.open(0), None)

    def after(self, seed: int, steps: int) -> Iterator[Batch]:
        """The batches of a seed that come after those of so many steps."""
        return itertools.islice(self.open(seed), steps, None)
