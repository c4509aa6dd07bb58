"""The statistics of KL-SOAP: each side of a gradient whitened by the eigenvalues of the other."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Inexact

from .kronecker import Pair, rotate


def kl_statistics(
    bases: Pair, eigenvalues: Pair, gradient: Inexact[Array, "k m n"]
) -> tuple[Pair, Pair]:
    """Return what each factor gets the Gram matrix of, and its diagonal in the factor's basis.

    Each side is whitened by the other one's eigenvalues, all of them those before this gradient.
    """
    m, n = (max(1, side) for side in gradient.shape[-2:])  # 0 / 0 where there is nothing to mean
    tiny = jnp.finfo(gradient.dtype).tiny
    root = lambda values: jnp.sqrt(jnp.maximum(values.real, tiny)).astype(gradient.dtype)
    weight_in = 1.0 if eigenvalues.fan_in is None else root(eigenvalues.fan_in)[..., :, None]
    weight_out = 1.0 if eigenvalues.fan_out is None else root(eigenvalues.fan_out)[..., None, :]
    through_out = rotate(bases._replace(fan_in=None), gradient)
    rotated = rotate(bases._replace(fan_out=None), through_out)
    halves = Pair(
        through_out / (weight_out * math.sqrt(n)),
        rotate(bases._replace(fan_out=None), gradient) / (weight_in * math.sqrt(m)),
    )
    squares = lambda x: jnp.square(jnp.abs(x)).astype(x.dtype)
    diagonals = Pair(
        None if bases.fan_in is None else jnp.sum(squares(rotated / weight_out), -1) / n,
        None if bases.fan_out is None else jnp.sum(squares(rotated / weight_in), -2) / m,
    )
    return halves, diagonals
