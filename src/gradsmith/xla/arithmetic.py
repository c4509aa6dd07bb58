"""Products of matrices that say their arithmetic.

TPUs and GPUs multiply narrow numbers many times faster than float32, and add the products in
float32 all the same. An `Arithmetic` names what the operands of a product are rounded to. A product
that is told none is a full one: no shortcut of an accelerator.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax.lax import DotAlgorithmPreset
from jax.typing import DTypeLike
from jaxtyping import Array, Inexact

from .targets import current_target

Precision = Literal["float32", "bfloat16", "bfloat16_3x", "float16", "tfloat32"]
"""What the operands of a product are rounded to."""


@dataclass(frozen=True)
class Arithmetic:
    """What the operands of a product of float32 are rounded to; the sums are in float32.

    Attributes:
        name: How users ask for it.
        algorithm: What JAX calls it.
        exponent: The bits of the exponent of an operand.
        mantissa: The bits of its mantissa, of those that are stored.
        storage: The dtype of such numbers, where there is one that arrays may have.
        parts: In how many such numbers an operand is split; their products are added, but for the
            smallest. Two parts of bfloat16 are three passes.
    """

    name: Precision
    algorithm: DotAlgorithmPreset | Literal["highest"]
    exponent: int
    mantissa: int
    storage: str | None = None
    parts: int = 1

    @property
    def full(self) -> bool:
        """Whether nothing is rounded: float32, or the dtype of wider operands."""
        return self.algorithm == "highest"

    @property
    def keeps_definite(self) -> bool:
        """Whether `x x^H` has no negative eigenvalues beyond those of adding in float32."""
        return self.parts == 1 and not self.full

    def round_off(self, dtype: DTypeLike) -> float:
        """Return the largest relative error of an operand of that dtype."""
        own = float(jnp.finfo(dtype).eps) / 2
        return own if self.full else 2.0 ** (-self.parts * (self.mantissa + 1))

    def __str__(self) -> str:
        return f"{self.name} operands, float32 sums"


FULL = Arithmetic("float32", "highest", 8, 23)

_ARITHMETICS = {
    arithmetic.name: arithmetic
    for arithmetic in (
        FULL,
        Arithmetic("bfloat16", DotAlgorithmPreset.BF16_BF16_F32, 8, 7, "bfloat16"),
        Arithmetic("bfloat16_3x", DotAlgorithmPreset.BF16_BF16_F32_X3, 8, 7, parts=2),
        Arithmetic("float16", DotAlgorithmPreset.F16_F16_F32, 5, 10, "float16"),
        Arithmetic("tfloat32", DotAlgorithmPreset.TF32_TF32_F32, 8, 10),
    )
}


def check_precision(precision: str | None) -> None:
    """Refuse a precision that does not exist.

    Raises:
        ValueError: No arithmetic has that name.
    """
    if precision not in (None, *get_args(Precision)):
        raise ValueError(
            f"no precision is called {precision!r}; there are {', '.join(get_args(Precision))}"
        )


def arithmetics(precision: Precision | None = None) -> dict[Arithmetic, float]:
    """Return what the target multiplies in, and how long a flop takes there.

    The fastest is first, and takes 1. With `precision`, only what has that name; a target that
    emulates has every one.

    Raises:
        ValueError: The target has no arithmetic of that name.
    """
    check_precision(precision)
    target = current_target()
    there = {_ARITHMETICS[name]: slowness for name, slowness in target.arithmetics}
    if precision is None:
        return there
    asked = _ARITHMETICS[precision]
    if asked not in there and not target.emulates:
        known = ", ".join(arithmetic.name for arithmetic in there)
        raise ValueError(
            f"precision={precision!r} is nothing that {target.name} multiplies in; it has {known}. "
            f"Omit precision for the first of these"
        )
    return {asked: there.get(asked, 1.0)}


def adjoint(x: Inexact[Array, "*stack m n"]) -> Inexact[Array, "*stack n m"]:
    """Return the conjugate transpose of every matrix."""
    return x.mT.conj()


def matmul(
    x: Inexact[Array, "*stack m n"], y: Inexact[Array, "*stack n p"], arithmetic: Arithmetic = FULL
) -> Array:
    """Return `x @ y`."""
    return _rounded(jnp.matmul, x, y, arithmetic)


def times_adjoint(
    x: Inexact[Array, "*stack m p"], y: Inexact[Array, "*stack n p"], arithmetic: Arithmetic = FULL
) -> Array:
    """Return `x @ y^H`, without a transposed copy.

    XLA on CPU makes one of `y.mT` where the stack is of one matrix; not where the product is
    written over the axes as they are.
    """
    product = lambda x, y, **how: jnp.einsum("...ij,...kj->...ik", x, y, **how)
    return _rounded(product, x, y.conj(), arithmetic)


def adjoint_times(
    x: Inexact[Array, "*stack p m"], y: Inexact[Array, "*stack p n"], arithmetic: Arithmetic = FULL
) -> Array:
    """Return `x^H @ y`, otherwise as `times_adjoint`."""
    product = lambda x, y, **how: jnp.einsum("...ji,...jk->...ik", x, y, **how)
    return _rounded(product, x.conj(), y, arithmetic)


def stored(x: Inexact[Array, "*stack m n"], arithmetic: Arithmetic) -> Array:
    """Return an operand of several products, rounded once and kept so.

    Memory and caches then hold twice as much of it. It stays as it is where there is no dtype for
    that, or the target reads it faster so.
    """
    if arithmetic.storage is None or 4 * math.prod(x.shape[-2:]) < current_target().stored_from:
        return x
    if current_target().emulates:
        return _round(x, arithmetic)
    return jax.lax.optimization_barrier(x.astype(arithmetic.storage))


def kept_narrow(x: Inexact[Array, "*stack m n"], arithmetic: Arithmetic) -> Array:
    """Return matrices rounded, as they lie in memory before and after they are computed with.

    Only those that are too many for the fast memory: the others do not lie there. And only in a
    format with the range of float32, because they are not scaled yet.
    """
    target = current_target()
    if not target.narrows_memory or arithmetic.storage is None or arithmetic.exponent != 8:
        return x
    if x.size * x.dtype.itemsize <= target.chunk_bytes:
        return x
    return _round(x, arithmetic) if target.emulates else x.astype(arithmetic.storage)


def _rounded(product: Callable[..., Any], x: Array, y: Array, arithmetic: Arithmetic) -> Array:
    """Return a product of operands that are rounded, by the target or else by hand."""
    if arithmetic.full:
        return product(x, y, precision=arithmetic.algorithm)
    if not current_target().emulates:
        if arithmetic.storage in (x.dtype, y.dtype):  # the other one is rounded as it is made
            x, y = x.astype(arithmetic.storage), y.astype(arithmetic.storage)
        how = {"precision": arithmetic.algorithm, "preferred_element_type": jnp.float32}
        return product(x, y, **how)
    first, second = _parts(x, arithmetic), _parts(y, arithmetic)
    total = product(first[0], second[0], precision="highest")
    for i in range(1, arithmetic.parts):
        for j in range(i + 1):
            total = total + product(first[j], second[i - j], precision="highest")
    return total


def _parts(x: Array, arithmetic: Arithmetic) -> list[Array]:
    parts = []
    for _ in range(arithmetic.parts):
        parts.append(_round(x, arithmetic))
        x = x - parts[-1]
    return parts


def _round(x: Array, arithmetic: Arithmetic) -> Array:
    rounded = jax.lax.reduce_precision(x, arithmetic.exponent, arithmetic.mantissa)
    if arithmetic.exponent == 8:
        return rounded
    # `reduce_precision` makes zero of what is below the smallest normal number; hardware does not.
    normal = 2.0 ** (2 - 2 ** (arithmetic.exponent - 1))
    unit = normal * 2.0**-arithmetic.mantissa
    return jnp.where(jnp.abs(x) < normal, jnp.round(x / unit) * unit, rounded)
