"""Scion: every layer steps in a norm of its own, with one learning rate for all widths."""

from typing import Unpack

import optax
from jax.typing import ArrayLike, DTypeLike

from ..layout.declare import Axes
from ..matrix.polar.plan import Method
from ..sites.placement import Placement
from ..transforms.arguments import ScalarOrSchedule
from ..transforms.momentum import momentum as momentum_of
from ..transforms.orthogonalize import orthogonalize
from ..transforms.shape_scale import match_operator_norm
from ..transforms.steepest import steepest_step
from ..xla.arithmetic import Precision
from .shared import Shared, by_role, takes_shared, vectors_last, with_tables


@takes_shared
def scion(
    learning_rate: ScalarOrSchedule,
    *,
    momentum: ArrayLike = 0.9,
    momentum_dtype: DTypeLike | None = None,
    radius: ArrayLike = 50.0,
    embedding_radius: ArrayLike = 50.0,
    head_radius: ArrayLike = 3000.0,
    method: Method | None = None,
    precision: Precision | None = None,
    placement: Placement = "owners",
    **shared: Unpack[Shared],
) -> optax.GradientTransformationExtraArgs:
    """Scion for matrices, embeddings and heads, AdamW for the vectors.

    Hidden matrices step in the spectral norm, embeddings in that of their vectors, heads in signs;
    see `steepest_step`. By default that is the unconstrained form. With `weight_decay=1` it is the
    constrained one, `W <- (1 - rate) W - rate * radius * L`: weights that start within their radius
    never leave it.

    State: one copy of these leaves, two of the vectors. Costs are those of `muon`.

    Args:
        learning_rate: That of all leaves, a number or a schedule; 2**-12 in the paper's GPT.
        momentum: The part of the momentum that survives a step; the paper's alpha is 1 minus it.
        momentum_dtype: What the momentum is kept in; by default the dtype of the parameters, or
            float32 where that is narrower.
        radius: The RMS-to-RMS operator norm of a direction of a hidden matrix.
        embedding_radius: The root mean square of a direction of each vector of an embedding; they
            lie along its last axis.
        head_radius: What the signs of a head are multiplied by, over its fan-in.
        method: How to orthogonalize; see `gradsmith.matrix.orthogonalize`.
        precision: In which arithmetic; see there.
        placement: Where matrices are computed on a mesh; see `per_stack`.
        **shared: See `Shared`.

    Raises:
        ValueError: An argument is out of its range; at `init`, where a leaf is ambiguous, or
            nothing says what is the fan-in of a head.

    Examples:
        >>> import gradsmith as gs
        >>> unconstrained = gs.scion(2**-12)
        >>> constrained = gs.scion(2**-12, weight_decay=1.0)

    References:
        Pethick et al., Training Deep Learning Models with Norm-Constrained LMOs, 2025,
        arXiv:2502.07529; https://github.com/LIONS-EPFL/scion
    """

    def along(direction: optax.GradientTransformation) -> optax.GradientTransformation:
        return optax.chain(momentum_of(momentum, "ema", momentum_dtype), direction)

    def matrices(axes: Axes) -> optax.GradientTransformation:
        return along(
            orthogonalize(
                method,
                precision=precision,
                postprocess=match_operator_norm(radius),
                axes=axes,
                placement=placement,
            )
        )

    shared = with_tables(
        shared,
        learning_rate,
        embedding=along(steepest_step("in", embedding_radius, axes=vectors_last)),
        head=along(steepest_step("sign", head_radius, axes=shared.get("axes"))),
    )
    return by_role(matrices, learning_rate, **shared)
