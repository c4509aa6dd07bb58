"""The polar factor by dynamically weighted Halley steps, each with one inverse."""

import functools
import math
from typing import ClassVar

from jaxtyping import Array, Inexact, Shaped

from ...xla.arithmetic import matmul
from ..inverse import inverse
from ..norms import row_scale, scale_gram
from ..symmetric import add_to_diagonal
from .method import GramFactor
from .rational import LOWER, Rational


def halley(
    x: Shaped[Array, "..."], steps: int = 2, *, lower: float = LOWER
) -> Inexact[Array, "*stack m n"]:
    """Approximate the polar factor of every matrix of `x` by steps of a rational iteration.

    Each step is the best odd rational function of type (3, 2) on what the steps before it left of
    `[lower, 1] ||x x^H||_F^(1/2)`. Two steps from the default `lower` come within 0.02 of 1. More
    steps do not help float32: its Gram matrix knows the singular values near `lower` no better.

    Costs `4 m^2 n + (8 steps - 6) m^3` flops a matrix for `m <= n`, all but one step's inverses in
    matrix products. Invariant to scaling and transposition. float16 and bfloat16 are computed in
    float32.

    Args:
        x: Matrices `(m, n)`, any number of leading axes, real or complex.
        steps: How many.
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
        >>> print(matrix.halley(x).round(1))
        [[1. 0. 0.]
         [0. 1. 0.]]

    References:
        Nakatsukasa, Bai and Gygi, Optimizing Halley's Iteration for Computing the Matrix Polar
        Decomposition, SIAM Journal on Matrix Analysis and Applications 31(5), 2010.
    """
    return Halley(steps, lower).run(x)


class Halley(Rational):
    """The dynamically weighted iteration on the Gram matrix."""

    name: ClassVar[str] = "halley"
    asked_as: ClassVar[str] = "halley"
    band_error: ClassVar[float] = 0.0189

    def small_flops(self, small: int) -> int:
        """As `Rational.small_flops`: an inverse a step, and three products between two."""
        return 2 * self.steps * small**3 + 6 * (self.steps - 1) * small**3

    def factor(self) -> GramFactor:
        """As `PolarMethod.factor`."""
        terms = halley_terms(self.steps, self.lower)

        def factor(gram: Inexact[Array, "*stack n n"]) -> Inexact[Array, "*stack n n"]:
            scale = row_scale(gram, "schatten4")
            # `p q` and not `q p`, which makes singular values of 2 and more out of a null space.
            r, q = scale_gram(gram, scale), None
            for index, (gain, weight, shift) in enumerate(terms):
                inverted = inverse(add_to_diagonal(r, shift), shift)
                p = add_to_diagonal(gain * weight * inverted, gain)
                q = p if q is None else matmul(p, q)
                if index < len(terms) - 1:
                    r = matmul(p, matmul(r, p))
            assert q is not None
            return q * scale.astype(gram.dtype)

        return factor


@functools.cache
def halley_terms(steps: int, lower: float) -> tuple[tuple[float, float, float], ...]:
    """Return `(gain, weight, shift)` of each step `gain s (1 + weight / (s^2 + shift))`.

    The band of the last step is centred on 1.

    Raises:
        ValueError: An argument is out of its range.
    """
    if steps < 1:
        raise ValueError(f"halley needs steps >= 1, got {steps}")
    if not 0 < lower < 1:
        raise ValueError(f"halley needs 0 < lower < 1, got {lower}")
    terms, low = [], lower
    for step in range(steps):
        d = (4 * (1 - low**2) / low**4) ** (1 / 3)
        inner = 8 - 4 * d + 8 * (2 - low**2) / (low**2 * math.sqrt(1 + d))
        a = math.sqrt(1 + d) + math.sqrt(max(inner, 0.0)) / 2
        b = (a - 1) ** 2 / 4
        c = a + b - 1
        low = min(low * (a + b * low**2) / (1 + c * low**2), 1.0)
        centre = (1 + low) / 2 if step == steps - 1 else 1.0
        terms.append((b / c / centre, (a * c / b - 1) / c, 1 / c))
    return tuple(terms)
