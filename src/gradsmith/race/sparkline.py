"""A curve in one line of text."""

import math
from collections.abc import Sequence

from .series import finite

LEVELS = "▁▂▃▄▅▆▇█"
LOST = "!"  # where a run has diverged


def sparkline(values: Sequence[float | None], width: int = 20) -> str:
    """Losses as bars, the highest full, on a logarithmic scale where all are positive.

    Of more values than `width`, as many are taken, evenly, with the last.

    Examples:
        >>> print(sparkline([8.0, 4.0, 2.0, 1.0]), sparkline([1.0, None]))
        █▆▃▁ ▁!
    """
    if len(values) > width:
        values = [values[round(n * (len(values) - 1) / (width - 1))] for n in range(width)]
    known = finite(values)
    if not known:
        return LOST * len(values)
    place = math.log if min(known) > 0 else float
    low, high = place(min(known)), place(max(known))
    return "".join(
        LEVELS[_level((place(value) - low) / (high - low) if high > low else 0.0)]
        if value is not None and math.isfinite(value)
        else LOST
        for value in values
    )


def _level(share: float) -> int:
    return min(len(LEVELS) - 1, int(share * len(LEVELS)))
