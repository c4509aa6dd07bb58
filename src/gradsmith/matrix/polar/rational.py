"""What the rational methods have in common: functions of the Gram matrix, made of inverses."""

import abc
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Inexact, Shaped

from ...xla.arithmetic import FULL, Arithmetic
from ...xla.targets import current_target
from ..inputs import as_matrices
from ..norms import largest_entry
from ..symmetric import apply, gram, through_gram_flops
from .method import GramFactor, Options, PolarMethod

LOWER = 1e-3
"""Below, float32 Gram matrices know little: the square is 1e-6, sixteen units of round-off."""


@dataclass(frozen=True)
class Rational(PolarMethod):
    """A run of a rational method.

    Attributes:
        steps: How many; of `zolotarev`, how many terms.
        lower: The smallest singular value that should come near 1.
        dtype: What it is computed in: float32, or wider.
        arithmetic: Full.
    """

    steps: int = 2
    lower: float = LOWER
    dtype: DTypeLike = jnp.float32
    arithmetic: Arithmetic = FULL

    unit: ClassVar[str] = "steps"
    band_error: ClassVar[float]
    full_because: ClassVar[str] = "its inverses lose the small eigenvalues of a rounded Gram matrix"

    @classmethod
    def asked(cls, options: Options, arithmetic: Arithmetic, dtype: DTypeLike) -> PolarMethod:
        """As `PolarMethod.asked`."""
        del options, arithmetic
        return cls(dtype=dtype)

    @property
    def error(self) -> float | None:
        """As `PolarMethod.error`."""
        return self.band_error + 2**14 * float(jnp.finfo(self.dtype).eps)

    def slowness(self, small: int) -> float:
        """As `PolarMethod.slowness`."""
        target = current_target()
        return target.small_rational_slowness if small < target.rational_from else 1.0

    def flops(self, small: int, large: int) -> int:
        """As `PolarMethod.flops`."""
        return through_gram_flops(small, large) + self.small_flops(small)

    def run(
        self, x: Shaped[Array, "..."], unit: Array | None = None
    ) -> Inexact[Array, "*stack m n"]:
        """As `PolarMethod.run`."""
        del unit
        computed = as_matrices(x, self.name)
        if x.size == 0:
            return x
        computed = computed / largest_entry(computed).astype(computed.dtype)
        return apply(self.factor()(gram(computed)), computed).astype(x.dtype)

    @abc.abstractmethod
    def small_flops(self, small: int) -> int:
        """Return the flops of the factor alone."""

    @abc.abstractmethod
    def factor(self) -> GramFactor:
        """As `PolarMethod.factor`."""

    def __str__(self) -> str:
        return f"{self.name}, {self.steps} {self.unit}"
