"""Newton-Schulz on the small Gram matrix: the same result, and the large matrix is touched twice.

With `R = X X^H`, every iterate of Newton-Schulz is `Q X` with `Q` a polynomial of `R`, so the whole
iteration happens on `n x n` matrices that are symmetric and commute.

Rounding leaves `R` with eigenvalues that are negative by about one unit round-off `u`, and the
iteration enlarges those as it does small ones: by the square of its slope at zero, the product of
all `a`. While `(prod a)^2 u` stays below a tenth that is harmless (0.014 for five of Keller's steps
in float32, 0.06 for five of Polar Express); beyond one it explodes. There the iteration restarts:
it applies the `Q` it has and forms a new Gram matrix.

In narrow arithmetic (`xla/arithmetic.py`) that would be after every step. But there multiples of
the identity are kept out of the rounded products (`symmetric.py`), and then the square goes away.
Rounding `X` leaves `X X^H` without negative eigenvalues, and rounding `A` in `s I + A` makes an
error only where `A` is large: between a large singular value and a small one, it grows on the side
of the small one alone. So `u prod a` counts, and not its square. Where two rows are much larger
than all others, that error enlarges the largest singular values, by some per cent (`segments`).
Keller's steps bear 5 per cent. Those of a minimax schedule bear no more than its safety: behind it
they diverge. So a segment ends before what the other steps make of enlarged values would leave the
band by more than `BORNE`. For five of Keller's steps in bfloat16 that is one restart, after the
third. A minimax schedule with little safety restarts after every step, which is the iteration on
the matrix itself at the same cost. Matrices of less than 32 rows have larger errors, because the
mean of a diagonal is then far from most of it. Operands in two parts are another
matter: their smallest product is left out, and with it goes what kept the Gram matrix definite.
"""

import functools
import math
from collections.abc import Sequence
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Inexact, Shaped

from ...xla.arithmetic import FULL, Arithmetic, adjoint, stored
from ..inputs import as_matrices
from ..norms import Normalizer, largest_entry, row_scale, scale_gram
from ..symmetric import (
    apply,
    apply_rounded,
    combine,
    gram,
    join,
    multiply,
    product,
    product_flops,
    split,
    through_gram_flops,
)
from .coefficients import Schedule, Step, image_of, schedule_of
from .method import SMALLEST, GramFactor
from .polynomial import Polynomial

BORNE = 0.07
"""How far outside its band rounding may move a singular value in narrow arithmetic."""


def gram_newton_schulz(
    x: Shaped[Array, "..."],
    coefficients: str | Schedule = "keller",
    *,
    steps: int | None = None,
    normalizer: Normalizer | None = None,
    eps: ArrayLike = 0.0,
) -> Inexact[Array, "*stack m n"]:
    """Approximate the polar factor of every matrix of `x` on its Gram matrix.

    The result is that of `newton_schulz` up to rounding: within 1e-5 for well-conditioned float32
    matrices and five steps, and 1e-3 for matrices of low rank.

    Costs for `m <= n` and each matrix: `4 m^2 n` flops for each start, and `8 m^3` for each step,
    less `6 m^3` for each start. With five steps and `n = 4 m` that is half of `newton_schulz`; for
    squares it is a quarter more. If the target computes large products of symmetric matrices by
    blocks (`Target.blocks_from`), these cost three quarters of that. float16 and bfloat16 are
    computed in float32; this form in plain half precision does not work.

    Args:
        x: Matrices `(m, n)`, any number of leading axes, real or complex.
        coefficients: As for `newton_schulz`.
        steps: As for `newton_schulz`.
        normalizer: As for `newton_schulz`.
        eps: As for `newton_schulz`.

    Returns:
        Matrices of the shape and dtype of `x`.

    Raises:
        ValueError: The schedule has another name or another number of steps; or `x` is no matrix.
        TypeError: `x` has integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from gradsmith import matrix
        >>> x = jnp.array([[900.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
        >>> print(matrix.gram_newton_schulz(x).round(1))
        [[0.7 0.  0. ]
         [0.  0.7 0. ]]

    References:
        gram-newton-schulz, 2026, https://github.com/Dao-AILab/gram-newton-schulz; the places of
        the restarts are our own.
    """
    schedule, dtype = schedule_of(coefficients), as_matrices(x, "gram_newton_schulz").dtype
    return GramNewtonSchulz(schedule, steps, normalizer, eps, dtype=dtype).run(x)


class GramNewtonSchulz(Polynomial):
    """The iteration on the Gram matrix."""

    name: ClassVar[str] = "gram_newton_schulz"

    @classmethod
    def safety(cls, arithmetic: Arithmetic) -> float:
        """As `Polynomial.safety`; in narrow arithmetic enough for segments of several steps."""
        return 1.1 if arithmetic.keeps_definite else super().safety(arithmetic)

    @property
    def least_side(self) -> int:
        """As `PolarMethod.least_side`."""
        return 32 if self.arithmetic.keeps_definite else 0

    @property
    def segments(self) -> Sequence[tuple[Step, ...]]:
        """The steps between restarts."""
        cut = segments(self.triples, self.dtype, self.arithmetic, self.schedule.slack)
        if self.arithmetic.keeps_definite and self.schedule.band[1] < 1.03:
            # Only the last segment's errors are left for no other to mend; here nothing hides them.
            *rest, last = cut
            if len(last) > 1 and slope_of(last) * self.arithmetic.round_off(self.dtype) > 0.01:
                return (*rest, last[:-1], last[-1:])
        return cut

    @property
    def restarts(self) -> int:
        """As `Polynomial.restarts`."""
        return len(self.segments) - 1

    @property
    def rounding(self) -> float:
        """As `Polynomial.rounding`."""
        if self.arithmetic.full:
            return super().rounding
        if self.arithmetic.keeps_definite:
            return max(super().rounding, BORNE)
        unit = self.arithmetic.round_off(self.dtype)
        return max(super().rounding, max(map(slope_of, self.segments)) ** 2 * unit / 10)

    def flops(self, small: int, large: int) -> int:
        """As `PolarMethod.flops`."""
        total = 0
        for segment in self.segments:
            length = len(segment)
            symmetric = 2 * (length - 1) + sum(c != 0 for _, _, c in segment)
            total += through_gram_flops(small, large, self.arithmetic)
            total += product_flops(small, self.arithmetic) * symmetric
            total += 2 * small**3 * (length - 1)
        return total

    def run(
        self, x: Shaped[Array, "..."], unit: Array | None = None
    ) -> Inexact[Array, "*stack m n"]:
        """As `PolarMethod.run`."""
        computed = as_matrices(x, self.name)
        unit = largest_entry(computed) if unit is None else unit
        out = computed / unit.astype(computed.dtype)
        first, *others = self.segments
        if self.arithmetic.full:  # the scale goes into the factor, which is smaller than the matrix
            out = apply(self._factor(first, self.eps_over(unit))(gram(out)), out)
            for triples in others:
                out = apply(_polynomial(gram(out), triples), out)
            return out.astype(x.dtype)
        for index, triples in enumerate(self.segments):
            rounded = stored(out, self.arithmetic)
            if index:  # a restart begins at what is stored, so that nothing else is written
                out = rounded.astype(out.dtype)
            grams = gram(rounded, arithmetic=self.arithmetic)
            one = jnp.ones_like(grams[..., :1, :1])
            scale = one if index else self._scale(grams, self.eps_over(unit))
            q = _polynomial(scale_gram(grams, scale), triples, self.arithmetic)
            out = apply_rounded(q, scale, out, rounded, self.arithmetic)
        return out.astype(x.dtype)

    def factor(self) -> GramFactor | None:
        """As `PolarMethod.factor`."""
        first, *others = self.segments
        return None if others or not self.arithmetic.full else self._factor(first, self.eps)

    def _factor(self, triples: Sequence[Step], eps: ArrayLike) -> GramFactor:
        def factor(gram: Inexact[Array, "*stack n n"]) -> Inexact[Array, "*stack n n"]:
            scale = self._scale(gram, eps)
            q = _polynomial(scale_gram(gram, scale), triples)
            return q * adjoint(scale).astype(q.dtype)

        return factor

    def _scale(self, gram: Array, eps: ArrayLike) -> Array:
        normalizer = self.normalizer or self.schedule.normalizer
        return row_scale(gram, normalizer, eps) / self.schedule.slack


@functools.cache
def segments(
    triples: tuple[Step, ...],
    dtype: DTypeLike,
    arithmetic: Arithmetic = FULL,
    slack: float = 1.0,
) -> tuple[tuple[Step, ...], ...]:
    """Cut a schedule where the iteration has to restart in arithmetic of that precision.

    The numbers are measured, on matrices with two to four large rows. In a later segment all
    singular values may be near the top of the band, and in the first one only a few.
    """
    unit = arithmetic.round_off(dtype)
    sigma = np.geomspace(SMALLEST, 1.0, 2_001) / slack
    high = image_of(triples, sigma).max()
    cut: list[tuple[Step, ...]] = [()]

    def enlarged(segment: tuple[Step, ...]) -> np.ndarray:
        share = 0.75 * slope_of(segment) if cut[1:] else 0.085 * _error_of(segment)
        return image_of(segment, sigma) * (1 + share * unit)

    for index, triple in enumerate(triples):
        longer = (*cut[-1], triple)
        if arithmetic.keeps_definite:
            image = image_of(triples[index + 1 :], enlarged(longer))
            safe = slope_of(longer) * unit <= (0.047 if cut[1:] else 0.16)
            safe &= _error_of(longer) * unit <= 0.6 and image.max() <= high + BORNE
        else:
            safe = slope_of(longer) ** 2 * unit <= 0.1
        if cut[-1] and not safe:
            sigma = enlarged(cut[-1])
            cut.append(())
        cut[-1] = (*cut[-1], triple)
    return tuple(cut)


def _error_of(triples: Sequence[Step]) -> float:
    """Return what a run of steps makes of rounding errors of one, of all that is rounded."""
    error = 0.0
    for a, b, c in triples:
        error = a * error + abs(b) + 2 * abs(c)
    return error


def slope_of(triples: Sequence[Step]) -> float:
    """Return the slope of a run of steps at zero."""
    return math.prod(a for a, _, _ in triples)


def _polynomial(
    gram: Inexact[Array, "*stack n n"], triples: Sequence[Step], how: Arithmetic = FULL
) -> Inexact[Array, "*stack n n"]:
    # All of them commute, but not their errors: what `x` has next to nothing of, the new factor on
    # the left leaves small and `q p` would enlarge, as would half of `q` and its mirror image.
    r, q = split(gram, how), None
    for index, (a, b, c) in enumerate(triples):
        p = combine(a, b, r, c, product(r, r, how))
        q = join(p) if q is None else multiply(join(p), q, how)
        if index < len(triples) - 1:
            r = product(p, product(r, p, how), how)
    assert q is not None
    return q
