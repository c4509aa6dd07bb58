"""What a place where matrices are computed can do."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool

from ..layout.bucket import Bucket
from ..layout.declare import MatrixLeaf
from ..layout.gathering import Stack


class Members(NamedTuple):
    """The matrices of one bucket at the place where they are computed.

    Attributes:
        stacks: All of them, in one or several stacks `(k, m, n)`; for `Make` their shapes may do.
        transposed: Which of them have come with their axes swapped; None where none has.
    """

    stacks: list[Any]
    transposed: Bool[np.ndarray, " k"] | Bool[Array, " k"] | None = None


Make = Callable[[list[Members]], list[Any]]
"""Returns the state of each bucket, given its members."""

Run = Callable[
    [list[Members], list[Members] | None, list[Any]], tuple[list[list[Stack]], list[Any]]
]
"""Returns stacks like those of the updates, and states, given updates, params and states."""


@runtime_checkable
class Site(Protocol):
    """A place where buckets are computed.

    Attributes:
        buckets: What is computed there. Members count the stacks of the leaves that it is given.
    """

    @property
    def buckets(self) -> Sequence[Bucket]:
        """What is computed there."""
        ...

    def init(self, make: Make, leaves: Sequence[MatrixLeaf]) -> list[Any]:
        """Return the state that `make` makes of each bucket."""
        ...

    def update(
        self,
        run: Run,
        make: Make,
        leaves: Sequence[MatrixLeaf],
        params: Sequence[MatrixLeaf] | None,
        states: list[Any],
    ) -> tuple[list[Array], list[Any]]:
        """Return the leaves after `run`, each where it was, and the states."""
        ...
