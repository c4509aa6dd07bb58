"""What a polar method says of itself: one object a method, in the file of its mathematics."""

import abc
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Inexact, Shaped

from ...xla.arithmetic import Arithmetic
from ..norms import Normalizer
from .coefficients import Schedule

GramFactor = Callable[[Inexact[Array, "*stack n n"]], Inexact[Array, "*stack n n"]]
"""From Gram matrices `R` to the `Q` that are applied to the matrices they came from: `Q X`."""

SMALLEST = 1.5e-3
"""Errors speak of the singular values above this part of `||x||_F`."""


class Options(NamedTuple):
    """What polynomial methods are told, and others do not ask; see `newton_schulz`."""

    schedule: Schedule
    steps: int | None = None
    normalizer: Normalizer | None = None
    eps: ArrayLike = 0.0


class PolarMethod(abc.ABC):
    """One way to the polar factor.

    Attributes:
        name: What it is called.
        asked_as: The `method` that asks for it. Two forms of one iteration share that.
        full_because: Why it needs full products; empty where narrow arithmetic is enough.
        arithmetic: What its products are computed in.
    """

    name: ClassVar[str]
    asked_as: ClassVar[str]
    full_because: ClassVar[str] = ""
    arithmetic: Arithmetic

    @classmethod
    @abc.abstractmethod
    def asked(cls, options: Options, arithmetic: Arithmetic, dtype: DTypeLike) -> "PolarMethod":
        """Return the method as one gets it by name, for matrices of that dtype."""

    @classmethod
    def accurate(
        cls, options: Options, arithmetic: Arithmetic, dtype: DTypeLike
    ) -> "Sequence[PolarMethod]":
        """Return those to choose from by accuracy, whose error is known."""
        return [cls.asked(options, arithmetic, dtype)]

    @property
    @abc.abstractmethod
    def error(self) -> float | None:
        """The largest distance from 1 of a singular value above `SMALLEST`, rounding included."""

    @abc.abstractmethod
    def flops(self, small: int, large: int) -> int:
        """Return the flops of one matrix with these sides."""

    @property
    def least_side(self) -> int:
        """The shorter side of the smallest matrices that it is safe for."""
        return 0

    def slowness(self, small: int) -> float:
        """Return how much longer its flops take than those of products of large matrices."""
        del small
        return 1.0

    @abc.abstractmethod
    def run(
        self, x: Shaped[Array, "..."], unit: Array | None = None
    ) -> Inexact[Array, "*stack m n"]:
        """Return the polar factors of `x`; `unit` is its largest entry, where that is known."""

    def factor(self) -> GramFactor | None:
        """Return the same as a function of Gram matrices; None where that is not enough.

        `eps` is then in the units of the matrix that a Gram matrix is made of.
        """
        return None
