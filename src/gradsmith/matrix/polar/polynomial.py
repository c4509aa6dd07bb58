"""What the two forms of Newton-Schulz have in common."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array

from ...xla.arithmetic import FULL, Arithmetic
from ..norms import Normalizer
from .coefficients import Schedule, Step
from .method import SMALLEST, Options, PolarMethod
from .polar_express import polar_express


@dataclass(frozen=True)
class Polynomial(PolarMethod):
    """A run of Newton-Schulz; see `newton_schulz` for its arguments.

    Attributes:
        schedule: The coefficients.
        steps: How many; None as published.
        normalizer: What a matrix is divided by at first; None as the schedule says.
        eps: What is added to that.
        arithmetic: What its products are computed in.
        dtype: What it is computed in: float32, or wider.
    """

    schedule: Schedule
    steps: int | None = None
    normalizer: Normalizer | None = None
    eps: ArrayLike = 0.0
    arithmetic: Arithmetic = FULL
    dtype: DTypeLike = jnp.float32

    asked_as: ClassVar[str] = "newton_schulz"

    @classmethod
    def asked(cls, options: Options, arithmetic: Arithmetic, dtype: DTypeLike) -> PolarMethod:
        """As `PolarMethod.asked`."""
        return cls(*options, arithmetic, dtype)

    @classmethod
    def accurate(
        cls, options: Options, arithmetic: Arithmetic, dtype: DTypeLike
    ) -> Sequence[PolarMethod]:
        """As `PolarMethod.accurate`."""
        return [
            cls.asked(options._replace(schedule=schedule, steps=None), arithmetic, dtype)
            for schedule in _accurate_schedules(cls.safety(arithmetic))
        ]

    @classmethod
    def safety(cls, arithmetic: Arithmetic) -> float:
        """Return the safety of the schedules that are made for an accuracy."""
        del arithmetic
        return 1.01

    @property
    def triples(self) -> tuple[Step, ...]:
        """The coefficients of each step."""
        return self.schedule.steps(self.steps)

    def eps_over(self, unit: Array) -> Array:
        """Return `eps` beside the norm of matrices that are divided by `unit`."""
        return jnp.asarray(self.eps, unit.dtype) / unit

    @property
    def rounding(self) -> float:
        """How far rounding moves a singular value, at most; measured on hostile spectra.

        A wide band is steep at its ends, which adds to that.
        """
        unit, (low, high) = self.arithmetic.round_off(self.dtype), self.schedule.band
        return unit * (2**15 if self.arithmetic.full else 12 + 30 * (high - low))

    @property
    def error(self) -> float | None:
        """As `PolarMethod.error`; known of schedules that are made for these singular values."""
        if self.schedule.lower != SMALLEST:
            return None
        return max(abs(end - 1) for end in self.schedule.band) + self.rounding

    @property
    def restarts(self) -> int:
        """How often it starts again from the matrix."""
        return 0

    def __str__(self) -> str:
        text = f"{self.name} with {self.schedule.name}, {len(self.triples)} steps"
        if self.restarts:
            text += f" and {self.restarts} {'restart' if self.restarts == 1 else 'restarts'}"
        if self.error is None and self.triples == self.schedule.coefficients:
            text += ", band {:.2g} to {:.2g}".format(*self.schedule.band)
        return text if self.arithmetic.full else f"{text}, {self.arithmetic}"


@functools.cache
def _accurate_schedules(safety: float) -> tuple[Schedule, ...]:
    return tuple(polar_express(steps, SMALLEST, safety=safety) for steps in range(4, 9))
