"""What a matrix is divided by before an iteration, so that no singular value is above 1.

All of them are read from the Gram matrix, which the iteration needs anyway. The Gram matrix is that
of `x` over its largest entry, so that nothing overflows or underflows on the way: the squares of
1e-30 and of 1e30 are not float32 numbers.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact

from ..xla.arithmetic import adjoint, matmul

Normalizer = Literal["frobenius", "schatten4", "schatten8", "aol"]


def check_normalizer(normalizer: str) -> None:
    """Refuse a normalizer that does not exist."""
    if normalizer not in get_args(Normalizer):
        known = ", ".join(get_args(Normalizer))
        raise ValueError(f"no normalizer is called {normalizer!r}; there are {known}")


def largest_entry(x: Inexact[Array, "*stack m n"]) -> Float[Array, "*stack 1 1"]:
    """Return the largest absolute value of every matrix; 1 for a matrix of zeros.

    A unit to compute in, on which no result depends, so it has no derivative. That of a maximum
    asks where it is, and XLA may compute the entries anew, with other round-off, and find it
    nowhere.
    """
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), axis=(-2, -1), keepdims=True, initial=0.0)
    return jnp.where(largest == 0, 1.0, largest)


def row_scale(
    gram: Inexact[Array, "*stack n n"],
    normalizer: Normalizer,
    eps: ArrayLike = 0.0,
) -> Float[Array, "*stack _ 1"]:
    """Return `s` such that `s * x` has singular values up to 1, from the Gram matrix `x x^H`.

    `eps`, one number or one a matrix `(*stack, 1, 1)`, is added to `1 / s`. Without it zero stays
    zero.

    | normalizer | `1 / s` | costs | Gaussian 256 x 1024: bound over norm |
    |---|---|---|---|
    | `frobenius` | `||x||_F` | nothing | 10.7 |
    | `schatten4` | `||x x^H||_F^(1/2)` | nothing | 2.8 |
    | `schatten8` | `||(x x^H)^2||_F^(1/4)` | `2 n^3` | 1.5 |
    | `aol` | of row `i`: `(sum_j |x x^H|_ij)^(1/2)` | nothing | |

    The tighter the bound, the fewer steps an iteration needs. `aol` scales every row by itself
    (Gershgorin's circles show that the norm is at most 1), and so changes the polar factor.
    """
    if normalizer == "frobenius":
        squared = jnp.trace(gram, axis1=-2, axis2=-1).real[..., None, None]
    elif normalizer == "schatten4":
        squared = jnp.linalg.norm(gram, axis=(-2, -1), keepdims=True)
    elif normalizer == "schatten8":
        squared = jnp.sqrt(jnp.linalg.norm(matmul(gram, gram), axis=(-2, -1), keepdims=True))
    else:
        squared = jnp.sum(jnp.abs(gram), axis=-1, keepdims=True)
    norm = jnp.sqrt(jnp.where(squared == 0, 1.0, squared))
    return 1.0 / (norm + jnp.asarray(eps, norm.dtype))


def scale_gram(
    gram: Inexact[Array, "*stack n n"], scale: Float[Array, "*stack _ 1"]
) -> Inexact[Array, "*stack n n"]:
    """Return the Gram matrix of `scale * x`."""
    scale = scale.astype(gram.dtype)
    return scale * gram * adjoint(scale)
