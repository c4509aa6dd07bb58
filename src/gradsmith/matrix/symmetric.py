"""Symmetric matrices as two by two blocks; one of the four is never computed.

The product of two symmetric matrices that commute is symmetric, so six products of half the size
make it instead of eight: three quarters of the flops. Polynomials of one Gram matrix commute.
Everything here is Hermitian where it is complex.

In narrow arithmetic, multiples of the identity stay out of what is rounded. Factors of an iteration
on Gram matrices are `s I + A` with `s` up to hundreds, and what they make of large singular values
is a difference of such numbers, which rounding them would destroy. Written as
`(s I + A) (t I + B) = A B + s (t I + B) + t A`, only `A B` is a product. The identity is exact for
any `s` and `t`; the means of the diagonals leave the smallest `A` and `B`. So it needs no more
products, and two additions that the compiler merges into them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from ..xla.arithmetic import FULL, Arithmetic, adjoint, adjoint_times, matmul, times_adjoint
from ..xla.targets import current_target


class Blocks(NamedTuple):
    """A symmetric matrix `[[top, side^H], [side, bottom]]`, any number of leading axes."""

    top: Inexact[Array, "*stack p p"]
    side: Inexact[Array, "*stack q p"]
    bottom: Inexact[Array, "*stack q q"]


Symmetric = Blocks | Array
"""Blocks where they pay, an ordinary array where they do not."""


def in_blocks(n: int, arithmetic: Arithmetic = FULL) -> bool:
    """Whether matrices of size `n` are large enough that three quarters of the flops are faster."""
    return arithmetic.full and n >= current_target().blocks_from


def split(x: Inexact[Array, "*stack n n"], arithmetic: Arithmetic = FULL) -> Symmetric:
    """Return `x` in blocks where they pay."""
    n = x.shape[-1]
    if not in_blocks(n, arithmetic):
        return x
    h = n // 2
    return Blocks(x[..., :h, :h], x[..., h:, :h], x[..., h:, h:])


def join(x: Symmetric) -> Inexact[Array, "*stack n n"]:
    """Return the whole matrix; the inverse of `split`."""
    if not isinstance(x, Blocks):
        return x
    above = jnp.concatenate([x.top, adjoint(x.side)], axis=-1)
    below = jnp.concatenate([x.side, x.bottom], axis=-1)
    return jnp.concatenate([above, below], axis=-2)


def join_by_sum(x: Blocks) -> Inexact[Array, "*stack n n"]:
    """Return what `join` does, a third slower.

    XLA may compile it once for all of a size, and every concatenation anew: what is joined once a
    leaf is joined by this.
    """
    p, n = x.top.shape[-1], x.top.shape[-1] + x.bottom.shape[-1]

    def placed(block: Array, above: int, before: int) -> Array:
        rows, columns = block.shape[-2:]
        sides = [(above, n - above - rows), (before, n - before - columns)]
        return jnp.pad(block, [(0, 0)] * (block.ndim - 2) + sides)

    diagonal = placed(x.top, 0, 0) + placed(x.bottom, p, p)
    return diagonal + placed(x.side, p, 0) + placed(adjoint(x.side), 0, p)


def product(x: Symmetric, y: Symmetric, arithmetic: Arithmetic = FULL) -> Symmetric:
    """Return `x @ y` of two symmetric matrices that commute, in blocks only if it is full."""
    if not isinstance(x, Blocks):
        assert not isinstance(y, Blocks)
        return multiply(x, y, arithmetic)
    assert isinstance(y, Blocks)
    return Blocks(
        matmul(x.top, y.top) + adjoint_times(x.side, y.side),
        matmul(x.side, y.top) + matmul(x.bottom, y.side),
        times_adjoint(x.side, y.side) + matmul(x.bottom, y.bottom),
    )


def multiply(
    x: Inexact[Array, "*stack n n"], y: Inexact[Array, "*stack n n"], arithmetic: Arithmetic
) -> Inexact[Array, "*stack n n"]:
    """Return `x @ y` of square matrices; multiples of the identity are not rounded."""
    if arithmetic.full:
        return matmul(x, y)
    (s, a), (t, b) = _off_identity(x), _off_identity(y)
    return matmul(a, b, arithmetic) + s * y + t * a


def _off_identity(x: Inexact[Array, "*stack n n"]) -> tuple[Array, Array]:
    """Return the mean `s` of the diagonal of every matrix, and `x - s I`."""
    # XLA may sum a trace where the matrix is made; a diagonal takes a kernel of its own.
    mean = (jnp.trace(x, axis1=-2, axis2=-1) / x.shape[-1])[..., None, None]
    return mean, x - mean * jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), x.shape)


def combine(a: float, b: float, x: Symmetric, c: float, y: Symmetric) -> Symmetric:
    """Return `a I + b x + c y`."""
    if not isinstance(x, Blocks):
        assert not isinstance(y, Blocks)
        return add_to_diagonal(b * x + c * y, a)
    assert isinstance(y, Blocks)
    return Blocks(
        add_to_diagonal(b * x.top + c * y.top, a),
        b * x.side + c * y.side,
        add_to_diagonal(b * x.bottom + c * y.bottom, a),
    )


def add_to_diagonal(x: Inexact[Array, "*stack n n"], a: float) -> Inexact[Array, "*stack n n"]:
    """Return `x + a I`."""
    return x + a * jnp.broadcast_to(jnp.eye(x.shape[-1], dtype=x.dtype), x.shape)


def gram(
    x: Inexact[Array, "*stack m n"],
    *divisors: Inexact[Array, "*stack 1 1"],
    arithmetic: Arithmetic = FULL,
) -> Inexact[Array, "*stack s s"]:
    """Return `y y^H`, or `y^H y` where that is smaller, without transposing `y`.

    `y` is `x` over all divisors.
    """
    tall = x.shape[-2] > x.shape[-1]
    n = min(x.shape[-2:])
    inner = adjoint_times if tall else times_adjoint
    blocks = in_blocks(n, arithmetic)
    if x.ndim > 2 and blocks:  # one by one: the halves are copies, of one matrix at a time
        return jax.lax.map(lambda one: gram(*one), (x, *divisors))
    for divisor in divisors:
        x = x / divisor
    if not blocks:
        return inner(x, x, arithmetic)
    h = n // 2
    first, second = (x[:, :h], x[:, h:]) if tall else (x[:h], x[h:])
    return join_by_sum(Blocks(inner(first, first), inner(second, first), inner(second, second)))


def apply(q: Inexact[Array, "*stack s s"], x: Inexact[Array, "*stack m n"]) -> Array:
    """Return `q x`, or `x q^H` where `gram(x)` is `x^H x`."""
    tall = x.shape[-2] > x.shape[-1]
    return times_adjoint(x, q) if tall else matmul(q, x)


def apply_rounded(
    q: Inexact[Array, "*stack s s"],
    scale: Inexact[Array, "*stack _ 1"],
    x: Inexact[Array, "*stack m n"],
    rounded: Inexact[Array, "*stack m n"],
    arithmetic: Arithmetic,
) -> Array:
    """Return `q` of `scale x`, otherwise as `apply`; the multiple of the identity is not rounded.

    `rounded` is `x` as it is `stored`.
    """
    s, a = _off_identity(q)
    scale = scale.astype(a.dtype)
    a = a * adjoint(scale)
    if x.shape[-2] > x.shape[-1]:
        return s * adjoint(scale) * x + times_adjoint(rounded, a, arithmetic)
    return s * scale * x + matmul(a, rounded, arithmetic)


def through_gram_flops(small: int, large: int, arithmetic: Arithmetic = FULL) -> int:
    """Return the flops of a Gram matrix and of a factor applied, for one matrix."""
    half = 2 * small**2 * large
    return half + (half * 3 // 4 if in_blocks(small, arithmetic) else half)


def product_flops(n: int, arithmetic: Arithmetic = FULL) -> int:
    """Return the flops of a product of symmetric matrices."""
    return 2 * n**3 * 3 // 4 if in_blocks(n, arithmetic) else 2 * n**3
