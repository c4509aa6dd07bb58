"""The reruns of a search for an explanation: each is made once, and none begins too late."""

import time

from .ground import Ground
from .reruns import Changed, run_again
from .sides import Side, Updates


class Search:
    """Keeps the updates of reruns for the next leaf, until the time is over."""

    def __init__(self, limit: float):
        self._end = time.monotonic() + limit
        self._kept: dict[tuple[str, str], Updates | None] = {}
        self._left_out: set[tuple[str, str]] = set()

    @property
    def left_out(self) -> int:
        """How many reruns did not begin because the time was over."""
        return len(self._left_out)

    def updates(self, name: str, says: str, side: Side | Changed, ground: Ground) -> Updates | None:
        """Return the updates of a changed side; None where it refuses, or where it is too late.

        Args:
            name: What is changed.
            says: How; the two are what a rerun is known by.
            side: The changed side.
            ground: What it sees.
        """
        key = name, says
        if key not in self._kept:
            if time.monotonic() >= self._end:
                self._left_out.add(key)
                return None
            self._kept[key] = run_again(side, ground)
        return self._kept[key]
