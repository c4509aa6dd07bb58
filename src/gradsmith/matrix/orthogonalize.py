"""The one door to the polar factor."""

from typing import Literal

from jaxtyping import Array, Inexact, Shaped

from .coefficients import Schedule
from .newton_schulz import newton_schulz
from .svd import svd_polar

Method = Literal["newton_schulz", "svd"]


def orthogonalize(
    x: Shaped[Array, "..."],
    method: Method = "newton_schulz",
    *,
    coefficients: str | Schedule = "keller",
    steps: int | None = None,
    eps: float | Array = 0.0,
) -> Inexact[Array, "*stack m n"]:
    """Return the polar factor of every matrix of `x`: its nearest matrix with singular values 1.

    Args:
        x: Matrices `(m, n)`, any number of leading axes.
        method: 'newton_schulz' approximates it by matrix products, to the band of the schedule;
            'svd' is exact and slow.
        coefficients: The schedule of 'newton_schulz'.
        steps: The number of steps of 'newton_schulz', where its schedule leaves a choice.
        eps: Added to the norm by 'newton_schulz'; see there.

    Returns:
        Matrices of the shape and dtype of `x`.

    Raises:
        ValueError: There is no such method, or no such schedule.

    Examples:
        >>> import jax.numpy as jnp
        >>> from gradsmith import matrix
        >>> print(matrix.orthogonalize(jnp.array([[4.0, 0.0], [0.0, 3.0]]), "svd"))
        [[1. 0.]
         [0. 1.]]
    """
    if method == "newton_schulz":
        return newton_schulz(x, coefficients, steps=steps, eps=eps)
    if method == "svd":
        return svd_polar(x)
    raise ValueError(f"no method is called {method!r}; there are 'newton_schulz' and 'svd'")
