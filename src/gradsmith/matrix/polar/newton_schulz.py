"""The polar factor by matrix products alone."""

from typing import ClassVar

from jax.typing import ArrayLike
from jaxtyping import Array, Inexact, Shaped

from ...xla.arithmetic import adjoint, matmul, stored
from ..inputs import as_matrices
from ..norms import Normalizer, largest_entry, row_scale, scale_gram
from .coefficients import Schedule, schedule_of
from .polynomial import Polynomial


def newton_schulz(
    x: Shaped[Array, "..."],
    coefficients: str | Schedule = "keller",
    *,
    steps: int | None = None,
    normalizer: Normalizer | None = None,
    eps: ArrayLike = 0.0,
) -> Inexact[Array, "*stack m n"]:
    """Approximate the polar factor of every matrix of `x` with matrix products alone.

    It keeps the singular vectors, and moves every singular value above `1e-3 ||x||_F` into the band
    of the schedule, around 1. Zero stays zero. The transpose of `x` gives the transpose of the
    result. With `eps=0` any positive multiple of `x` gives the same result, from 1e-30 to 1e30.

    Costs `4 m^2 n + 2 m^3` flops a matrix and step for `m <= n`: it iterates on the short side.
    float16 and bfloat16 are computed in float32, in which a rounding error of the input grows by
    the slope of the schedule at zero, about 500 for 'keller'.

    Args:
        x: Matrices `(m, n)`, any number of leading axes, real or complex.
        coefficients: The name of a schedule in `gradsmith.matrix.SCHEDULES`, or a `Schedule`.
        steps: How many steps, where the schedule leaves a choice; default as published.
        normalizer: The bound on its norm that a matrix is divided by at first: 'frobenius',
            'schatten4', 'schatten8' or 'aol'. By default the one that the schedule is made for.
            The Schatten norms are tighter, which is worth about one step. 'aol' scales every row
            by itself. Unless the rows are orthogonal, the result is then no polar factor of `x`.
        eps: Added to that norm. The published codes add 1e-7 or 1e-8, which shrinks the
            update of matrices whose norm is not far above it.

    Returns:
        Matrices of the shape and dtype of `x`.

    Raises:
        ValueError: The schedule has another name or another number of steps; or `x` is no matrix.
        TypeError: `x` has integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from gradsmith import matrix
        >>> x = jnp.array([[900.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
        >>> print(matrix.newton_schulz(x).round(1))
        [[0.7 0.  0. ]
         [0.  0.7 0. ]]

    References:
        Jordan et al., Muon, 2024, https://kellerjordan.github.io/posts/muon/ and, for the
        schedules, `gradsmith.matrix.polar.coefficients`.
    """
    return NewtonSchulz(schedule_of(coefficients), steps, normalizer, eps).run(x)


class NewtonSchulz(Polynomial):
    """The iteration on the matrix itself: safe in any arithmetic, its errors do not add up."""

    name: ClassVar[str] = "newton_schulz"

    def flops(self, small: int, large: int) -> int:
        """As `PolarMethod.flops`."""
        squarings = sum(c != 0 for _, _, c in self.triples)
        return 4 * small**2 * large * len(self.triples) + 2 * small**3 * squarings

    def run(
        self, x: Shaped[Array, "..."], unit: Array | None = None
    ) -> Inexact[Array, "*stack m n"]:
        """As `PolarMethod.run`."""
        triples, schedule, how = self.triples, self.schedule, self.arithmetic
        computed = as_matrices(x, self.name)
        tall = x.shape[-2] > x.shape[-1]
        wide = adjoint(computed) if tall else computed
        unit = largest_entry(wide) if unit is None else unit
        wide = wide / unit.astype(wide.dtype)
        rounded = stored(wide, how)
        gram = matmul(rounded, adjoint(rounded), how)
        scale = row_scale(gram, self.normalizer or schedule.normalizer, self.eps_over(unit))
        scale = scale / schedule.slack
        wide, gram = scale.astype(wide.dtype) * wide, scale_gram(gram, scale)
        for index, (a, b, c) in enumerate(triples):
            rounded = stored(wide, how)
            if index > 0:
                gram = matmul(rounded, adjoint(rounded), how)
            operand = stored(gram, how)
            gram = operand.astype(gram.dtype)
            polynomial = b * gram if c == 0 else b * gram + c * matmul(operand, operand, how)
            wide = a * wide + matmul(polynomial, rounded, how)
        return (adjoint(wide) if tall else wide).astype(x.dtype)
