"""The polar factor by Zolotarev's rational function: two inverses instead of five products."""

import functools
import math
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Inexact, Shaped

from ..inverse import inverse
from ..norms import row_scale, scale_gram
from ..symmetric import add_to_diagonal
from .method import GramFactor
from .rational import LOWER, Rational


def zolotarev(
    x: Shaped[Array, "..."], terms: int = 2, *, lower: float = LOWER
) -> Inexact[Array, "*stack m n"]:
    """Approximate the polar factor of every matrix of `x` by the best rational function.

    Of all odd rational functions of type `(2 terms + 1, 2 terms)`, Zolotarev's is closest to 1 on
    the singular values in `[lower, 1] ||x x^H||_F^(1/2)`: within 0.203 for two terms and the
    default `lower`. All terms are computed at once, each from one inverse of a shifted Gram matrix.

    Costs `4 m^2 n + 2 terms m^3` flops a matrix for `m <= n`, nearly all in matrix products.
    Invariant to scaling and transposition. float16 and bfloat16 are computed in float32.

    Args:
        x: Matrices `(m, n)`, any number of leading axes, real or complex.
        terms: How many.
        lower: The smallest singular value that should come near 1.

    Returns:
        Matrices of the shape and dtype of `x`.

    Raises:
        ValueError: An argument is out of its range, or `x` is no matrix.
        TypeError: `x` has integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from gradsmith import matrix
        >>> x = jnp.array([[900.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
        >>> print(jnp.abs(jnp.diagonal(matrix.zolotarev(x)) - 1).max() < 0.21)
        True

    References:
        Nakatsukasa and Freund, Computing Fundamental Matrix Decompositions Accurately via the
        Matrix Sign Function in Two Iterations, SIAM Review 58(3), 2016.
    """
    return Zolotarev(terms, lower).run(x)


class Zolotarev(Rational):
    """The best rational function, as a sum of so many inverses."""

    name: ClassVar[str] = "zolotarev"
    asked_as: ClassVar[str] = "zolotarev"
    unit: ClassVar[str] = "terms"
    band_error: ClassVar[float] = 0.2021

    def small_flops(self, small: int) -> int:
        """As `Rational.small_flops`."""
        return 2 * self.steps * small**3

    def factor(self) -> GramFactor:
        """As `PolarMethod.factor`."""
        gain, weights, shifts = zolotarev_terms(self.steps, self.lower)

        def factor(gram: Inexact[Array, "*stack n n"]) -> Inexact[Array, "*stack n n"]:
            scale = row_scale(gram, "schatten4")
            r = scale_gram(gram, scale)
            shifted = jnp.stack([add_to_diagonal(r, shift) for shift in shifts])
            floor = jnp.asarray(shifts, scale.dtype)
            floor = jnp.reshape(floor, (len(shifts),) + (1,) * gram.ndim)
            inverses = inverse(shifted, floor)
            # Terms are added one by one: XLA compiles a sum over their axis to ten times the time.
            total = gain * weights[0] * inverses[0]
            for weight, inverted in zip(weights[1:], inverses[1:], strict=True):
                total = total + gain * weight * inverted
            return add_to_diagonal(total, gain) * scale.astype(r.dtype)

        return factor


@functools.cache
def zolotarev_terms(terms: int, lower: float) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Return `(gain, weights, shifts)` of `gain s (1 + sum_j weights_j / (s^2 + shifts_j))`.

    The band of that function on `[lower, 1]` is centred on 1.

    Raises:
        ValueError: There is no such function.
    """
    if terms < 1:
        raise ValueError(f"zolotarev needs terms >= 1, got {terms}")
    if not 0 < lower < 1:
        raise ValueError(f"zolotarev needs 0 < lower < 1, got {lower}")
    points = [
        (lower * math.tan(_amplitude(j / (2 * terms + 1), lower))) ** 2
        for j in range(1, 2 * terms + 1)
    ]
    poles, zeros = points[0::2], points[1::2]
    weights = [
        math.prod(zero - pole for zero in zeros)
        / math.prod(other - pole for other in poles if other != pole)
        for pole in poles
    ]
    value = lambda s: s * (1 + sum(w / (s * s + p) for w, p in zip(weights, poles, strict=True)))
    # The error alternates from `lower` to 1; both ends have the same sign for an odd number of
    # turns, so the other extreme is found on a grid.
    grid = [lower ** (i / 4000) for i in range(4001)]
    low, high = min(map(value, grid)), max(map(value, grid))
    return 2 / (low + high), tuple(weights), tuple(poles)


def _amplitude(fraction: float, complement: float) -> float:
    """Return Jacobi's amplitude of `fraction` of the quarter period, by descending Landen steps.

    The modulus is given by its complement; its arithmetic-geometric mean converges in five steps.
    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 16.4.
    """
    means, differences, b = [1.0], [math.sqrt(1 - complement**2)], complement
    while differences[-1] > 1e-16:
        a = means[-1]
        means.append((a + b) / 2)
        differences.append((a - b) / 2)
        b = math.sqrt(a * b)
    phi = 2 ** (len(means) - 1) * fraction * math.pi / 2
    for a, c in zip(means[:0:-1], differences[:0:-1], strict=True):
        phi = (phi + math.asin(c / a * math.sin(phi))) / 2
    return phi
