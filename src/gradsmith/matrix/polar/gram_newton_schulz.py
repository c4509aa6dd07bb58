"""Newton-Schulz on the small Gram matrix: the same result, and the large matrix is touched twice.

With `R = X X^H`, every iterate of Newton-Schulz is `Q X` with `Q` a polynomial of `R`, so the whole
iteration happens on `n x n` matrices that are symmetric and commute.

Rounding leaves `R` with eigenvalues that are negative by about one unit round-off `u`, and the
iteration enlarges those as it does small ones: by the square of its slope at zero, the product of
all `a`. While `(prod a)^2 u` stays below a tenth that is harmless (0.014 for five of Keller's steps
in float32, 0.06 for five of Polar Express); beyond one it explodes. There the iteration restarts:
it applies the `Q` it has and forms a new Gram matrix.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Inexact, Shaped

from ...xla.arithmetic import adjoint, matmul
from ..inputs import as_matrices
from ..norms import Normalizer, largest_entry, row_scale, scale_gram
from ..symmetric import apply, combine, gram, join, product, split
from .coefficients import Schedule, Step, schedule_of

GramFactor = Callable[[Inexact[Array, "*stack n n"]], Inexact[Array, "*stack n n"]]
"""From Gram matrices `R` to the `Q` that are applied to the matrices they came from: `Q X`."""


def gram_newton_schulz(
    x: Shaped[Array, "..."],
    coefficients: str | Schedule = "keller",
    *,
    steps: int | None = None,
    normalizer: Normalizer | None = None,
    eps: float | Array = 0.0,
) -> Inexact[Array, "*stack m n"]:
    """Approximate the polar factor of every matrix of `x` on its Gram matrix.

    The result is that of `newton_schulz` up to rounding: within 1e-5 for well-conditioned float32
    matrices and five steps, and 1e-3 for matrices of low rank.

    Costs `4 m^2 n` flops a matrix for each start, and `8 m^3` a step less `6 m^3` a start, for
    `m <= n`: for five steps and `n = 4 m` it is half of `newton_schulz`, for squares a quarter
    more. On CPUs, large products of symmetric matrices cost three quarters of that. float16 and
    bfloat16 are computed in float32; this form in plain half precision does not work.

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
    schedule = schedule_of(coefficients)
    computed = as_matrices(x, "gram_newton_schulz")
    first, *others = segments(schedule.steps(steps), computed.dtype)
    unit = largest_entry(computed)
    out = computed / unit.astype(computed.dtype)
    factor = polynomial_factor(
        first, normalizer=normalizer or schedule.normalizer, slack=schedule.slack, eps=eps / unit
    )
    out = apply(factor(gram(out)), out)
    for triples in others:
        out = apply(_polynomial(gram(out), triples), out)
    return out.astype(x.dtype)


def polynomial_factor(
    triples: Sequence[Step],
    *,
    normalizer: Normalizer = "frobenius",
    slack: float = 1.0,
    eps: float | Array = 0.0,
) -> GramFactor:
    """Return the function from Gram matrices to the polynomials that Newton-Schulz applies."""

    def factor(gram: Inexact[Array, "*stack n n"]) -> Inexact[Array, "*stack n n"]:
        scale = row_scale(gram, normalizer, eps) / slack
        q = _polynomial(scale_gram(gram, scale), triples)
        return q * adjoint(scale).astype(q.dtype)

    return factor


def through_gram(
    x: Shaped[Array, "..."], factor: GramFactor, method: str
) -> Inexact[Array, "*stack m n"]:
    """Apply a factor that does not depend on the scale of `x` to matrices of any scale and side."""
    computed = as_matrices(x, method)
    if x.size == 0:
        return x
    computed = computed / largest_entry(computed).astype(computed.dtype)
    return apply(factor(gram(computed)), computed).astype(x.dtype)


def segments(triples: Sequence[Step], dtype: DTypeLike) -> list[tuple[Step, ...]]:
    """Cut a schedule where the iteration has to restart in arithmetic of that precision."""
    round_off = float(jnp.finfo(dtype).eps) / 2
    cut, slope = [], float("inf")
    for triple in triples:
        slope *= triple[0]
        if slope**2 * round_off > 0.1:
            cut.append([])
            slope = triple[0]
        cut[-1].append(triple)
    return [tuple(segment) for segment in cut]


def _polynomial(
    gram: Inexact[Array, "*stack n n"], triples: Sequence[Step]
) -> Inexact[Array, "*stack n n"]:
    # All of them commute, but not their errors: what `x` has next to nothing of, the new factor on
    # the left leaves small and `q p` would enlarge, as would half of `q` and its mirror image.
    r, q = split(gram), None
    for index, (a, b, c) in enumerate(triples):
        p = combine(a, b, r, c, product(r, r))
        q = join(p) if q is None else matmul(join(p), q)
        if index < len(triples) - 1:
            r = product(p, product(r, p))
    assert q is not None
    return q
