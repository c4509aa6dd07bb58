"""The one door to the polar factor."""

import jax.numpy as jnp
from jax import ShapeDtypeStruct
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact, Shaped

from ...xla.arithmetic import Precision
from ..inputs import check_matrices
from ..norms import Normalizer
from .coefficients import Schedule
from .plan import Method, Plan, Request


def orthogonalize(
    x: Shaped[Array, "..."],
    method: Method | None = None,
    *,
    coefficients: str | Schedule | None = None,
    steps: int | None = None,
    max_error: float | None = None,
    normalizer: Normalizer | None = None,
    eps: ArrayLike = 0.0,
    precision: Precision | None = None,
) -> Inexact[Array, "*stack m n"]:
    """Return the polar factor of every matrix of `x`: its nearest matrix with singular values 1.

    The default is Keller Jordan's five Newton-Schulz steps, in the form that takes fewer flops.
    With `max_error` it is the cheapest method of that accuracy. `explain` says which. Narrow
    arithmetic moves no singular value out of the band of Keller's schedule by more than 0.07, at
    any scale from 1e-30 to 1e30; docs/orthogonalize.md has the other schedules.

    Args:
        x: Matrices `(m, n)`, any number of leading axes, real or complex.
        method: 'newton_schulz' approximates it by a polynomial, to the band of its schedule;
            'zolotarev' and 'halley' by a rational function; 'svd' is exact and slow.
        coefficients: The schedule of 'newton_schulz', by default 'keller'.
        steps: The number of steps of 'newton_schulz', where its schedule leaves a choice.
        max_error: Instead of a method: the largest distance from 1 of any singular value above
            `1.5e-3 ||x||_F`. Five steps of Keller's have 0.32.
        normalizer: What 'newton_schulz' divides by; see there.
        eps: Added to that by 'newton_schulz'; see there.
        precision: What the operands of products are rounded to; sums are in float32 or wider. By
            default the fastest that the target has (`gradsmith.Target`): the published bfloat16, or
            float32 where that is emulated. With `max_error`, whatever is fast and keeps the error.
            A name asks for one: 'float32', 'bfloat16', 'bfloat16_3x', 'float16' or 'tfloat32'.
            float64 and complex matrices are never rounded.

    Returns:
        Matrices of the shape and dtype of `x`.

    Raises:
        ValueError: There is no such method or schedule; two arguments contradict each other; the
            method, the dtype or the target lacks the precision; or `x` is no matrix.
        TypeError: `x` has integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from gradsmith import matrix
        >>> x = jnp.array([[4.0, 0.0], [0.0, 3.0]])
        >>> print(matrix.orthogonalize(x, "svd"))
        [[1. 0.]
         [0. 1.]]
        >>> print(jnp.abs(matrix.orthogonalize(x, max_error=0.1) - jnp.eye(2)).max() < 0.1)
        True
    """
    request = Request(method, coefficients, steps, max_error, normalizer, eps, precision)
    check_matrices(x.shape, x.dtype, "orthogonalize")
    m, n = x.shape[-2:]
    return request.plan(m, n, x.dtype).run(x)


def explain(
    x: Shaped[Array, "..."] | ShapeDtypeStruct | tuple[int, ...],
    method: Method | None = None,
    *,
    coefficients: str | Schedule | None = None,
    steps: int | None = None,
    max_error: float | None = None,
    normalizer: Normalizer | None = None,
    eps: ArrayLike = 0.0,
    precision: Precision | None = None,
) -> Plan:
    """Return what `orthogonalize` would do with the same arguments, why, and its flops.

    Only shape and dtype of `x` matter, so `x` may be a shape, which then means float32.

    Raises:
        ValueError: As for `orthogonalize`.
        TypeError: As for `orthogonalize`.

    Examples:
        >>> from gradsmith import matrix
        >>> print(matrix.explain((64, 256)))
        gram_newton_schulz with keller, 5 steps, band 0.47 to 1.2: 1.31e+07 flops each; as published
    """
    request = Request(method, coefficients, steps, max_error, normalizer, eps, precision)
    shape, dtype = (x, jnp.float32) if isinstance(x, tuple) else (x.shape, x.dtype)
    check_matrices(shape, dtype, "explain")
    m, n = shape[-2:]
    return request.plan(m, n, dtype)
