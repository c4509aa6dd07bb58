"""Inverse p-th roots of symmetric positive semidefinite matrices: exactly, or by products alone."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact

from ..xla.arithmetic import adjoint_times, matmul, times_adjoint
from ..xla.decompositions import eigh
from ..xla.varying import vary_like

RootMethod = Literal["eigh", "newton"]


def inverse_root(
    a: Inexact[Array, "*stack n n"],
    p: int,
    method: RootMethod = "eigh",
    *,
    eps: ArrayLike = 1e-6,
) -> Inexact[Array, "*stack n n"]:
    """Return `(a + eps |a| I)^(-1/p)` of every matrix of `a`; the root of zero is zero.

    The ridge is relative, so that the root of `c a` is `c^(-1/p)` times that of `a` at any scale.
    'eigh' is a full decomposition. Its `|a|` is the largest eigenvalue, and it lifts the spectrum
    by what round-off made negative. 'newton' is the coupled Newton iteration, of matrix products
    alone: `2 + log2(p)` in a step, and about `log(1 / eps) + 6` steps. Its `|a|` is the Frobenius
    norm, and its `eps` must be well above the round-off of the dtype.

    The derivative of both is exact, also where eigenvalues are equal. It takes a decomposition.

    Args:
        a: Symmetric or Hermitian matrices, any number of leading axes; float32 or wider.
        p: The root, 1 or more.
        method: 'eigh' or 'newton'.
        eps: The ridge, relative to the norm.

    Raises:
        ValueError: `p` is less than 1.

    Examples:
        >>> import jax.numpy as jnp
        >>> from gradsmith import matrix
        >>> print(matrix.inverse_root(jnp.diag(jnp.array([4.0, 16.0])), 2, eps=0.0))
        [[0.5  0.  ]
         [0.   0.25]]

    References:
        Anil et al., Scalable Second Order Optimization for Deep Learning, 2020, arXiv:2002.09018;
        Guo and Higham, A Schur-Newton method for the matrix p-th root, 2006.
    """
    if p < 1:
        raise ValueError(f"inverse_root needs p >= 1, got {p}")
    if a.size == 0:
        return a
    return _root(a, jnp.asarray(eps, jnp.finfo(a.dtype).dtype), p, method)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _root(a: Array, eps: Array, p: int, method: RootMethod) -> Array:
    return (_newton if method == "newton" else _eigh)(a, p, eps)


@_root.defjvp
def _(p: int, method: RootMethod, primals: Any, tangents: Any) -> tuple[Array, Array]:
    """Return the root and its derivative, by divided differences of `x^(-1/p)` (Daleckii, Krein).

    With `u^p = x` and `v^p = y` they are `-1 / (u v sum_k u^k v^(p-1-k))`, without a difference
    that could vanish.
    """
    (a, eps), (da, deps) = primals, tangents
    values, vectors = eigh(a)
    rotated = matmul(adjoint_times(vectors, da), vectors)
    moved = jnp.diagonal(rotated, axis1=-2, axis2=-1).real
    unit = jnp.max(jnp.abs(jax.lax.stop_gradient(values)), axis=-1, keepdims=True)
    unit = jnp.where(unit == 0, 1.0, unit)
    values, moved = values / unit, moved / unit
    rotated = rotated / unit[..., None].astype(a.dtype)
    if method == "newton":
        norm = jnp.linalg.norm(values, axis=-1, keepdims=True)
        norm_moved = jnp.sum(values * moved, -1, keepdims=True) / jnp.where(norm == 0, 1.0, norm)
    else:
        norm, norm_moved = values[..., -1:], moved[..., -1:]
    ridge = eps * norm - (0.0 if method == "newton" else jnp.minimum(values[..., :1], 0.0))
    eye = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
    rotated = rotated + (deps * norm + eps * norm_moved)[..., None].astype(a.dtype) * eye
    values = values + ridge
    there = (values[..., :, None] > 0) & (values[..., None, :] > 0)
    u = jnp.where(values > 0, values, 1.0) ** (1 / p)
    u, v = u[..., :, None], u[..., None, :]
    slopes = -1 / (u * v * sum(u**k * v ** (p - 1 - k) for k in range(p)))
    slopes = jnp.where(there, slopes, 0.0) * unit[..., None] ** (-1 / p)
    out = matmul(vectors, times_adjoint(slopes.astype(a.dtype) * rotated, vectors))
    return _root(a, eps, p, method), out


def _eigh(a: Array, p: int, eps: Array) -> Array:
    values, vectors = eigh(a)
    floor = -jnp.minimum(values[..., :1], 0.0) + eps * values[..., -1:]
    values = values + floor
    roots = jnp.where(values > 0, jnp.where(values > 0, values, 1.0) ** (-1 / p), 0.0)
    return times_adjoint(vectors * roots[..., None, :].astype(a.dtype), vectors)


def _newton(a: Array, p: int, eps: Array) -> Array:
    """Keep `M = X^p A` while `X` goes to `A^(-1/p)` and `M` to the identity."""
    eye = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
    largest = jnp.max(jnp.abs(a), axis=(-2, -1), keepdims=True)
    a = a / jnp.where(largest == 0, 1.0, largest).astype(a.dtype)
    norm = jnp.sqrt(jnp.sum(jnp.square(jnp.abs(a)), axis=(-2, -1), keepdims=True))
    a = a + (eps * norm).astype(a.dtype) * eye
    norm = jnp.where(norm == 0, 1.0, norm * (1 + eps))
    scale = ((p + 1) / (2 * norm)).astype(a.dtype)
    tolerance = 10 * a.shape[-1] * jnp.finfo(a.dtype).eps

    def distance(m: Array) -> Array:
        return jnp.max(jnp.abs(m - eye), axis=(-2, -1), keepdims=True)

    def unfinished(carry) -> Array:
        step, _, m, last = carry
        now = distance(m)
        return (step < 100) & jnp.any((now > tolerance) & (now < last))

    def iterate(carry):
        step, x, m, _ = carry
        factor = (1 + 1 / p) * eye - m / p
        return step + 1, matmul(x, factor), matmul(_power(factor, p), m), 2 * distance(m)

    start = (0, scale ** (1 / p) * eye, scale * a, jnp.full_like(norm, jnp.inf))
    root = jax.lax.while_loop(unfinished, iterate, vary_like(start, a))[1]
    nonzero = jnp.where(largest == 0, 1.0, largest)
    return jnp.where(largest == 0, 0.0, root * (nonzero ** (-1 / p)).astype(a.dtype))


def _power(x: Array, p: int) -> Array:
    if p == 1:
        return x
    half = _power(x, p // 2)
    square = matmul(half, half)
    return matmul(square, x) if p % 2 else square
