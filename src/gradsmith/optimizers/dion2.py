"""Dion2 and NorDion2: Muon of a part of every matrix, so that a mesh moves only that part."""

from typing import Unpack

import optax
from jax.typing import ArrayLike, DTypeLike

from ..layout.declare import Axes
from ..matrix.polar.plan import Method
from ..sites.placement import Placement
from ..transforms.arguments import ScalarOrSchedule
from ..transforms.orthogonalize_largest import Side, orthogonalize_largest
from ..transforms.shape_scale import match_operator_norm
from ..xla.arithmetic import Precision
from .muon import ADAM_SHARE
from .shared import Shared, by_role, takes_shared


@takes_shared
def dion2(
    learning_rate: ScalarOrSchedule,
    *,
    fraction: float | None = None,
    momentum: ArrayLike = 0.95,
    momentum_dtype: DTypeLike | None = None,
    side: Side | None = None,
    neuron_decay: ArrayLike | None = None,
    method: Method | None = None,
    precision: Precision | None = None,
    placement: Placement = "owners",
    **shared: Unpack[Shared],
) -> optax.GradientTransformationExtraArgs:
    """Dion2 for the hidden matrices, AdamW for everything else; with `neuron_decay`, NorDion2.

    Each step orthogonalizes the largest rows or columns of the momentum, and leaves the rest for
    later; see `orthogonalize_largest`. On a mesh that does not split that side, only a `fraction`
    of what `muon` moves travels. At a `fraction` of 1 it is `muon` with
    `momentum_kind='heavy_ball'` and `shape_scale='match_operator_norm'`. State: that of `muon`;
    NorDion2 keeps two numbers a neuron besides.

    Args:
        learning_rate: That of the matrices, a number or a schedule, 0.01 in the published code.
            AdamW's own is 0.3 times that.
        fraction: The part of the rows or columns that a step moves, in (0, 1]; by default 0.25.
        momentum: The part of the chosen ones that stays in the momentum.
        momentum_dtype: What the momentum is kept in; by default the dtype of the parameters, or
            float32 where that is narrower.
        side: What is chosen: rows, of 'in'; columns, of 'out'; or those of the 'shorter' side, by
            default. Take one that the mesh does not split.
        neuron_decay: Gives neurons equal parts over time, 0.95 in NorDion2; chooses columns.
        method: How to orthogonalize; see `gradsmith.matrix.orthogonalize`. The published code takes
            the coefficients of Polar Express, here they are Keller Jordan's.
        precision: In which arithmetic; see there.
        placement: Where matrices are computed on a mesh; see `per_stack`.
        **shared: See `Shared`.

    Raises:
        ValueError: An argument is out of its range; at `init`, where a leaf is ambiguous.
        TypeError: `fraction` is an array: it decides shapes.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.dion2(0.01, fraction=0.5, weight_decay=0.01)
        >>> nordion2 = gs.dion2(0.01, neuron_decay=0.95)

    References:
        Ahn et al., Dion2, 2025, arXiv:2512.16928; NorDion2, https://github.com/microsoft/dion
    """

    def direction(axes: Axes) -> optax.GradientTransformation:
        return orthogonalize_largest(
            0.25 if fraction is None else fraction,
            momentum,
            side,
            neuron_decay=neuron_decay,
            momentum_dtype=momentum_dtype,
            method=method,
            precision=precision,
            postprocess=match_operator_norm(),
            axes=axes,
            placement=placement,
        )

    return by_role(direction, learning_rate, ADAM_SHARE, **shared)
