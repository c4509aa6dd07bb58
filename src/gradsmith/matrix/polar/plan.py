"""Which method, in which form, for which matrices: decided once, from shapes alone."""

import dataclasses
from dataclasses import dataclass
from typing import Literal, get_args

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array

from ...xla.targets import current_target
from ..norms import Normalizer, check_normalizer
from ..symmetric import in_blocks
from .coefficients import Schedule, schedule_of
from .gram_newton_schulz import GramFactor, gram_newton_schulz, polynomial_factor, segments
from .halley import halley, halley_factor
from .newton_schulz import newton_schulz
from .polar_express import polar_express
from .svd import svd_polar
from .zolotarev import zolotarev, zolotarev_factor

Method = Literal["newton_schulz", "zolotarev", "halley", "svd"]

SMALLEST = 1.5e-3
"""`max_error` speaks of the singular values above this part of `||x||_F`."""


@dataclass(frozen=True)
class Request:
    """What is asked of the polar factor; checked when it is made.

    Attributes:
        method: One of the methods; None leaves it to `max_error`, or to 'newton_schulz'.
        coefficients: The schedule of 'newton_schulz'.
        steps: The number of its steps, where the schedule leaves a choice.
        max_error: The largest distance from 1 of any singular value above `1.5e-3 ||x||_F`.
        normalizer: What 'newton_schulz' divides by, unless the schedule's own.
        eps: What it adds to that.
    """

    method: str | None = None
    coefficients: str | Schedule | None = None
    steps: int | None = None
    max_error: float | None = None
    normalizer: Normalizer | None = None
    eps: float | Array = 0.0

    def __post_init__(self):
        if self.method is not None and self.method not in get_args(Method):
            known = ", ".join(get_args(Method))
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
        elif self.method not in (None, "newton_schulz") and len(given) > 1:
            raise ValueError(f"{given[1]} belongs to 'newton_schulz', not to {self.method!r}")
        if self.method in (None, "newton_schulz"):
            self.schedule.steps(self.steps)

    @property
    def schedule(self) -> Schedule:
        """The schedule of 'newton_schulz'."""
        return schedule_of("keller" if self.coefficients is None else self.coefficients)

    def plan(self, m: int, n: int, dtype: DTypeLike, *, from_gram: bool = False) -> "Plan":
        """Return how matrices `(m, n)` of that dtype are done at the least cost.

        With `from_gram`, only plans that are functions of the Gram matrix count.

        Raises:
            ValueError: No method does what is asked in the arithmetic of that dtype.
        """
        small, large = sorted((m, n))
        working = jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype
        if self.max_error is None:
            candidates = _named(self, small, large, working)
            why = "as asked" if self.method or self.coefficients else "the published result"
        else:
            candidates = [
                plan
                for plan in _accurate(small, large, working)
                if plan.error is not None and plan.error <= self.max_error
            ]
            why = f"the cheapest within {self.max_error:g}"
        candidates = [
            dataclasses.replace(plan, why=why, normalizer=self.normalizer, eps=self.eps)
            for plan in candidates
        ]
        if from_gram:
            candidates = [plan for plan in candidates if plan.factor() is not None]
        if not candidates:
            raise ValueError(
                f"nothing comes within {self.max_error} of 1 in {jnp.dtype(working).name}"
                f"{' on Gram matrices' if from_gram else ''}; ask for less, or compute in float64"
            )
        return min(candidates, key=lambda plan: plan.flops * _slowness(plan, small))


@dataclass(frozen=True)
class Plan:
    """One way to the polar factor.

    Attributes:
        method: 'newton_schulz', 'gram_newton_schulz', 'zolotarev', 'halley' or 'svd'.
        steps: How many; of 'zolotarev', how many terms.
        flops: Of one matrix.
        schedule: The coefficients of a polynomial method.
        restarts: How often the Gram form starts again.
        error: The largest distance from 1 of a singular value above `1.5e-3 ||x||_F`, if known.
        why: In words.
        normalizer: As in the request.
        eps: As in the request.
    """

    method: str
    steps: int
    flops: int
    schedule: Schedule | None = None
    restarts: int = 0
    error: float | None = None
    why: str = ""
    normalizer: Normalizer | None = None
    eps: float | Array = 0.0

    def __str__(self) -> str:
        """Return the plan as a sentence."""
        schedule = f" with {self.schedule.name}" if self.schedule else ""
        restarts = f" and {self.restarts} restarts" if self.restarts else ""
        error = "" if self.error is None else f", within {self.error:.2g} of 1"
        unit = "terms" if self.method == "zolotarev" else "steps"
        return (
            f"{self.method}{schedule}, {self.steps} {unit}{restarts}{error}: "
            f"{self.flops:.3g} flops a matrix; {self.why}"
        )

    def run(self, x: Array) -> Array:
        """Return the polar factors of `x`."""
        if self.schedule is not None:
            form = newton_schulz if self.method == "newton_schulz" else gram_newton_schulz
            return form(
                x, self.schedule, steps=self.steps, normalizer=self.normalizer, eps=self.eps
            )
        if self.method == "zolotarev":
            return zolotarev(x, self.steps)
        return halley(x, self.steps) if self.method == "halley" else svd_polar(x)

    def factor(self) -> GramFactor | None:
        """Return the same as a function of Gram matrices; None where that is not enough.

        `eps` is then in the units of the matrix that a Gram matrix is made of.
        """
        if self.method == "zolotarev":
            return zolotarev_factor(self.steps)
        if self.method == "halley":
            return halley_factor(self.steps)
        if self.schedule is None or self.method == "newton_schulz" or self.restarts:
            return None
        return polynomial_factor(
            self.schedule.steps(self.steps),
            normalizer=self.normalizer or self.schedule.normalizer,
            slack=self.schedule.slack,
            eps=self.eps,
        )


def _named(request: Request, small: int, large: int, dtype: DTypeLike) -> list[Plan]:
    """Return the forms of the method that is named."""
    if request.method in (None, "newton_schulz"):
        return _forms(request.schedule, request.steps, small, large, dtype)
    if request.method == "zolotarev":
        return [_zolotarev(small, large)]
    return [_halley(small, large) if request.method == "halley" else _svd(small, large, dtype)]


def _accurate(small: int, large: int, dtype: DTypeLike) -> list[Plan]:
    """Return what there is to choose from, each with its error in arithmetic of that dtype."""
    candidates = [_svd(small, large, dtype)]
    for steps in range(4, 9):
        schedule = polar_express(steps, SMALLEST)
        error = max(abs(end - 1) for end in schedule.band)
        for plan in _forms(schedule, None, small, large, dtype):
            candidates.append(dataclasses.replace(plan, error=error))
    candidates += [_zolotarev(small, large), _halley(small, large)]
    # What rounding adds: measured on hostile spectra, a few thousand units of it.
    rounding = 2**14 * float(jnp.finfo(dtype).eps)
    return [
        plan
        if plan.method == "svd" or plan.error is None
        else dataclasses.replace(plan, error=plan.error + rounding)
        for plan in candidates
    ]


def _forms(
    schedule: Schedule, steps: int | None, small: int, large: int, dtype: DTypeLike
) -> list[Plan]:
    """Return both forms of Newton-Schulz."""
    triples = schedule.steps(steps)
    squarings = sum(c != 0 for _, _, c in triples)
    standard = 4 * small**2 * large * len(triples) + 2 * small**3 * squarings
    cut = segments(triples, dtype)
    gram = 0
    for segment in cut:
        length = len(segment)
        symmetric = 2 * (length - 1) + sum(c != 0 for _, _, c in segment)
        gram += _through_gram(small, large) + _symmetric(small) * symmetric
        gram += 2 * small**3 * (length - 1)
    return [
        Plan("newton_schulz", len(triples), standard, schedule),
        Plan("gram_newton_schulz", len(triples), gram, schedule, restarts=len(cut) - 1),
    ]


def _zolotarev(small: int, large: int) -> Plan:
    flops = _through_gram(small, large) + 2 * 2 * small**3
    return Plan("zolotarev", 2, flops, error=0.2021)


def _halley(small: int, large: int) -> Plan:
    flops = _through_gram(small, large) + 2 * 2 * small**3 + 3 * 2 * small**3
    return Plan("halley", 2, flops, error=0.0189)


def _svd(small: int, large: int, dtype: DTypeLike) -> Plan:
    flops = 22 * small**3 + 4 * small**2 * large
    return Plan("svd", 1, flops, error=2**7 * float(jnp.finfo(dtype).eps))


def _slowness(plan: Plan, n: int) -> float:
    """Return how much longer than those of products of large matrices the flops of a plan take."""
    target = current_target()
    if plan.method == "svd":
        return target.svd_slowness
    small = n < target.rational_from
    return target.small_rational_slowness if small and plan.schedule is None else 1.0


def _through_gram(small: int, large: int) -> int:
    """Return the flops of a Gram matrix and of a factor applied."""
    half = 2 * small**2 * large
    return half + (half * 3 // 4 if in_blocks(small) else half)


def _symmetric(n: int) -> int:
    """Return the flops of a product of symmetric matrices."""
    return 2 * n**3 * 3 // 4 if in_blocks(n) else 2 * n**3
