"""The polar factor exactly, by a singular value decomposition."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Inexact, Shaped

from ...xla.arithmetic import (
    FULL,
    Arithmetic,
    adjoint,
    adjoint_times,
    matmul,
    times_adjoint,
)
from ...xla.decompositions import svd
from ...xla.targets import current_target
from ..inputs import as_matrices
from .method import Options, PolarMethod


def svd_polar(x: Shaped[Array, "..."]) -> Inexact[Array, "*stack m n"]:
    """Return the polar factor `U V^H` of every matrix of `x`, on its numerical range.

    Singular values up to `max(m, n)` units of round-off of the largest count as zero and stay zero,
    as they do in every iterative method: the polar factor of a singular matrix is not unique, and
    an arbitrary completion is no direction to step in.

    Costs a full decomposition, some 20 times five Newton-Schulz steps and hardly parallel: for
    tests and small matrices.

    Args:
        x: Matrices `(m, n)`, any number of leading axes, real or complex. float16 and bfloat16
            are computed in float32.

    Returns:
        Matrices of the shape and dtype of `x`.

    Raises:
        ValueError: `x` is no matrix.
        TypeError: `x` has integers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from gradsmith import matrix
        >>> print(matrix.svd_polar(jnp.diag(jnp.array([4.0, 3.0, 0.0]))))
        [[1. 0. 0.]
         [0. 1. 0.]
         [0. 0. 0.]]
    """
    computed = as_matrices(x, "svd_polar")
    if x.size == 0:
        return x
    return _polar(computed).astype(x.dtype)


@jax.custom_jvp
def _polar(x: Array) -> Array:
    u, _, vh = _range(x)
    return matmul(u, vh)


def _range(x: Array) -> tuple[Array, Array, Array]:
    """Return `u, s, vh`, zero where a singular value counts as zero."""
    u, s, vh = svd(x)
    threshold = max(x.shape[-2:]) * jnp.finfo(s.dtype).eps * s[..., :1]
    s = jnp.where(s <= threshold, 0.0, s)
    there = (s > 0).astype(u.dtype)
    return u * there[..., None, :], s, there[..., :, None] * vh


@_polar.defjvp
def _(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """Return the polar factor and its derivative among matrices of the same rank.

    With `A = U^H dX V`: `(A - A^H)_ij / (s_i + s_j)` within the range, and `dX` over the singular
    value where it leads out of it on one side.
    """
    (x,), (dx,) = primals, tangents
    u, s, vh = _range(x)
    over = jnp.where(s > 0, 1 / jnp.where(s > 0, s, 1.0), 0.0).astype(x.dtype)[..., None, :]
    sums = s[..., :, None] + s[..., None, :]
    across, along = times_adjoint(dx, vh), adjoint_times(u, dx)  # dX V and U^H dX
    inner = matmul(along, adjoint(vh))
    rotated = (inner - adjoint(inner)) / jnp.where(sums > 0, sums, 1.0).astype(x.dtype)
    below = (across - matmul(u, inner)) * over
    beside = adjoint(over) * (along - matmul(inner, vh))
    out = matmul(matmul(u, rotated) + below, vh) + matmul(u, beside)
    return matmul(u, vh), out


@dataclass(frozen=True)
class Svd(PolarMethod):
    """The decomposition, as a method.

    Attributes:
        dtype: What it is computed in: float32, or wider.
        arithmetic: Full.
    """

    dtype: DTypeLike = jnp.float32
    arithmetic: Arithmetic = FULL

    name: ClassVar[str] = "svd"
    asked_as: ClassVar[str] = "svd"
    full_because: ClassVar[str] = "a decomposition is exact or nothing"

    @classmethod
    def asked(cls, options: Options, arithmetic: Arithmetic, dtype: DTypeLike) -> PolarMethod:
        """As `PolarMethod.asked`."""
        del options, arithmetic
        return cls(dtype)

    @property
    def error(self) -> float | None:
        """As `PolarMethod.error`."""
        return 2**7 * float(jnp.finfo(self.dtype).eps)

    def flops(self, small: int, large: int) -> int:
        """As `PolarMethod.flops`."""
        return 22 * small**3 + 4 * small**2 * large

    def slowness(self, small: int) -> float:
        """As `PolarMethod.slowness`."""
        del small
        return current_target().svd_slowness

    def run(
        self, x: Shaped[Array, "..."], unit: Array | None = None
    ) -> Inexact[Array, "*stack m n"]:
        """As `PolarMethod.run`."""
        del unit
        return svd_polar(x)

    def __str__(self) -> str:
        return f"{self.name}, 1 steps"
