"""Which method, in which form and arithmetic: decided once, from shapes and the target alone."""

import itertools
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array

from ...xla.arithmetic import FULL, Arithmetic, Precision, arithmetics, check_precision
from ...xla.targets import current_target
from ..norms import Normalizer, check_normalizer
from .coefficients import Schedule, schedule_of
from .gram_newton_schulz import GramNewtonSchulz
from .halley import Halley
from .method import GramFactor, Options, PolarMethod
from .newton_schulz import NewtonSchulz
from .svd import Svd
from .zolotarev import Zolotarev

Method = Literal["newton_schulz", "zolotarev", "halley", "svd"]

METHODS: tuple[type[PolarMethod], ...] = (NewtonSchulz, GramNewtonSchulz, Zolotarev, Halley, Svd)
"""All there are. Of two that cost the same, the first is taken."""

_POLYNOMIAL = NewtonSchulz.asked_as


@dataclass(frozen=True)
class Request:
    """What is asked of the polar factor; checked when it is made.

    Attributes:
        method: One of the methods; None leaves it to `max_error`, or to Newton-Schulz.
        coefficients: The schedule of Newton-Schulz.
        steps: The number of its steps, where the schedule leaves a choice.
        max_error: The largest distance from 1 of any singular value above `1.5e-3 ||x||_F`.
        normalizer: What Newton-Schulz divides by, unless the schedule's own.
        eps: What it adds to that.
        precision: The arithmetic; None leaves it to the target.
    """

    method: str | None = None
    coefficients: str | Schedule | None = None
    steps: int | None = None
    max_error: float | None = None
    normalizer: Normalizer | None = None
    eps: ArrayLike = 0.0
    precision: Precision | None = None

    def __post_init__(self):
        check_precision(self.precision)
        if self.method is not None and not self._methods():
            known = ", ".join(dict.fromkeys(method.asked_as for method in METHODS))
            raise ValueError(f"no method is called {self.method!r}; there are {known}")
        if self.normalizer is not None:
            check_normalizer(self.normalizer)
        given = [
            name for name in ("method", "coefficients", "steps") if getattr(self, name) is not None
        ]
        if self.max_error is not None:
            if not 0 < self.max_error < 1:
                raise ValueError(f"max_error is between 0 and 1, got {self.max_error}")
            if given:
                raise ValueError(
                    f"max_error={self.max_error} chooses the method itself; omit "
                    f"{' and '.join(given)}, or omit max_error"
                )
        elif self.method not in (None, _POLYNOMIAL) and len(given) > 1:
            raise ValueError(f"{given[1]} belongs to {_POLYNOMIAL!r}, not to {self.method!r}")
        if self.method in (None, _POLYNOMIAL):
            self.schedule.steps(self.steps)
        for method in self._methods() if self.method else ():
            if method.full_because and self.precision not in (None, FULL.name):
                raise ValueError(
                    f"{self.method!r} needs {FULL.name}: {method.full_because}. Omit "
                    f"precision={self.precision!r}, or take {_POLYNOMIAL!r}"
                )

    @property
    def schedule(self) -> Schedule:
        """The schedule of Newton-Schulz."""
        return schedule_of("keller" if self.coefficients is None else self.coefficients)

    def arithmetics(self, dtype: DTypeLike = jnp.float32) -> dict[Arithmetic, float]:
        """Return what the products may be computed in on the target, and how slow that is.

        Only float32 has anything narrower; complex and wider matrices are multiplied as they are.

        Raises:
            ValueError: The target lacks what is asked, or the matrices are wider.
        """
        there = arithmetics(self.precision)
        if jnp.dtype(dtype) == jnp.float32:
            return there if self.max_error is not None else dict(itertools.islice(there.items(), 1))
        if self.precision not in (None, FULL.name):
            raise ValueError(
                f"precision={self.precision!r} is for real matrices of float32 and narrower, and "
                f"these are {jnp.dtype(dtype).name}; omit it"
            )
        return {FULL: 1.0}

    def plan(self, m: int, n: int, dtype: DTypeLike, *, from_gram: bool = False) -> "Plan":
        """Return how matrices `(m, n)` of that dtype are done at the least cost.

        With `from_gram`, only plans that are functions of the Gram matrix count.

        Raises:
            ValueError: No method does what is asked in the arithmetic of that dtype.
        """
        small, large = sorted((m, n))
        working = jnp.dtype(jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype)
        costs: list[tuple[float, PolarMethod, float]] = []
        for arithmetic, slowness in self.arithmetics(working).items():
            for way in self._ways(arithmetic, working):
                if way.least_side <= small and (not from_gram or way.factor() is not None):
                    cost = way.flops(small, large) * way.slowness(small) * slowness
                    costs.append((cost, way, slowness))
        if not costs:
            raise ValueError(
                f"nothing comes within {self.max_error} of 1 in {self.precision or working.name}"
                f"{' on Gram matrices' if from_gram else ''}; ask for less, or compute in float64"
            )
        _, way, slowness = min(costs, key=lambda row: row[0])
        flops, rate = way.flops(small, large), current_target().flops_per_cycle
        if self.max_error is not None:
            why = f"the cheapest within {self.max_error:g}"
        else:
            why = "as asked" if self.method or self.coefficients else "as published"
        return Plan(way, flops, why, flops * slowness / rate if rate else None)

    def _methods(self) -> list[type[PolarMethod]]:
        """Return the forms of the method that is asked for; all, where accuracy is."""
        if self.max_error is not None and self.method is None:
            return list(METHODS)
        return [method for method in METHODS if method.asked_as == (self.method or _POLYNOMIAL)]

    def _ways(self, arithmetic: Arithmetic, dtype: jnp.dtype) -> list[PolarMethod]:
        options = Options(self.schedule, self.steps, self.normalizer, self.eps)
        ways: list[PolarMethod] = []
        for method in self._methods():
            if self.max_error is None:
                ways.append(method.asked(options, arithmetic, dtype))
            elif arithmetic.full or not method.full_because:
                ways += [
                    way
                    for way in method.accurate(options, arithmetic, dtype)
                    if way.error is not None and way.error <= self.max_error
                ]
        return ways


@dataclass(frozen=True)
class Plan:
    """One way to the polar factor of one matrix, and why.

    Attributes:
        way: The method, with all that it is told.
        flops: Of one matrix.
        why: In words.
        cycles: What these flops take on the target at its best; None where it names no device.
    """

    way: PolarMethod
    flops: int
    why: str
    cycles: float | None = None

    @property
    def method(self) -> str:
        """'newton_schulz', 'gram_newton_schulz', 'zolotarev', 'halley' or 'svd'."""
        return self.way.name

    @property
    def error(self) -> float | None:
        """The largest distance from 1 of a singular value above `1.5e-3 ||x||_F`, if known."""
        return self.way.error

    def __str__(self) -> str:
        """Return the plan as a sentence."""
        error = "" if self.error is None else f", within {self.error:.2g} of 1"
        cycles = "" if self.cycles is None else f", at least {self.cycles / 1e6:.2g} million cycles"
        return f"{self.way}{error}: {self.flops:.3g} flops each{cycles}; {self.why}"

    def run(self, x: Array) -> Array:
        """Return the polar factors of `x`."""
        return self.way.run(x)

    def factor(self) -> GramFactor | None:
        """Return the same as a function of Gram matrices; None where that is not enough."""
        return self.way.factor()
