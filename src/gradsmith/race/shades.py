"""Which colour a number has in a map, so that single numbers far away do not hide all others."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from .series import over_a_decade

LEAST = 0.1  # of the colours, for the middle four fifths of the numbers
WORTH = 2  # times as many colours for them, or evenly is simpler to read


class Shades(NamedTuple):
    """From a number to a share of the colours: `low` has the first one, `high` the last.

    Args:
        low: The lowest number.
        high: The highest.
        even_to: The size up to which numbers lie evenly, on both sides of zero. Larger ones lie by
            their logarithm. 0 where all do, which are positive then; infinity where none does.
    """

    low: float
    high: float
    even_to: float = math.inf

    def __call__(self, value: float) -> float:
        """The share of a number; NaN where it has no logarithm.

        Examples:
            >>> round(Shades(0.01, 100.0, even_to=0.0)(1.0), 3)
            0.5
            >>> Shades(-3.0, 3.0, even_to=1.0)(0.0)
            0.5
        """
        low, high, at = map(self._place, (self.low, self.high, value))
        return 0.5 if low == high else (at - low) / (high - low)

    def number(self, share: float) -> float:
        """The number that has a share; the inverse."""
        low, high = self._place(self.low), self._place(self.high)
        at = low + share * (high - low)
        if math.isinf(self.even_to):
            return at
        return math.exp(at) if self.even_to == 0 else self.even_to * math.sinh(at)

    def in_words(self) -> str:
        """How colours follow numbers; nothing where they do so evenly.

        Examples:
            >>> print(Shades(-3.0, 50.0, even_to=0.25).in_words())
            colours by the logarithm, but evenly from -0.25 to 0.25
        """
        if math.isinf(self.even_to):
            return ""
        middle = f", but evenly from {-self.even_to:.2g} to {self.even_to:.2g}"
        return f"colours by the logarithm{middle if self.even_to else ''}"

    def _place(self, value: float) -> float:
        if math.isinf(self.even_to):
            return value
        if self.even_to == 0:
            return math.log(value) if value > 0 else math.nan
        return math.asinh(value / self.even_to)


def shades(values: Sequence[float]) -> Shades:
    """Shades in which the middle four fifths of the numbers have at least a tenth of the colours.

    By the logarithm if all are positive and over a decade; else evenly; else by the logarithm
    beyond the size that a tenth of the numbers stay below. Where none of these gives them a tenth,
    that which gives them most, if that is twice as much as evenly.

    Args:
        values: Finite, at least one.

    Examples:
        >>> shades([0.1, 0.2, 0.3, 0.4]).even_to, shades([1.0, 10.0, 100.0, 1000.0]).even_to
        (inf, 0.0)
    """
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    sizes = sorted(abs(value) for value in values if value)
    even = Shades(low, high)
    found = [even]
    if over_a_decade(values):
        found.insert(0, Shades(low, high, 0.0))
    if sizes:
        found.append(Shades(low, high, _at(sizes, 0.1)))
    shown = lambda one: one(_at(ordered, 0.9)) - one(_at(ordered, 0.1))
    enough = [one for one in found if shown(one) >= LEAST]
    most = max(found, key=shown)
    return enough[0] if enough else most if shown(most) > WORTH * shown(even) else even


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[round(share * (len(ordered) - 1))]
