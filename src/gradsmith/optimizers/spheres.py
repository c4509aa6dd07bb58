"""MuonH and AdamH: the matrices keep their lengths, and the learning rate is an angle."""

from typing import Unpack

import optax
from jax.typing import ArrayLike, DTypeLike

from ..layout.declare import Axes
from ..lift.per_stack import per_stack
from ..matrix.polar.plan import Method
from ..sites.placement import Placement
from ..transforms.adam import scale_by_adam
from ..transforms.arguments import ScalarOrSchedule
from ..transforms.hyperball import hyperball
from ..transforms.orthogonalize import polar_factor
from ..xla.arithmetic import Precision
from .muon import ADAM_SHARE
from .shared import Shared, behind_momentum, by_role, takes_shared


@takes_shared
def muonh(
    learning_rate: ScalarOrSchedule,
    *,
    momentum: ArrayLike = 0.95,
    momentum_dtype: DTypeLike | None = None,
    method: Method | None = None,
    precision: Precision | None = None,
    placement: Placement = "owners",
    **shared: Unpack[Shared],
) -> optax.GradientTransformationExtraArgs:
    """Muon on hidden matrices that keep their lengths, AdamW for everything else.

    See `hyperball`, which needs `params`, and matrices that do not start at zero. As the matrices
    keep their lengths, `weight_decay` is for the other leaves; a matrix with an `lr_scales` of its
    own does not keep it. State and cost are those of `muon`.

    Args:
        learning_rate: That of the matrices, a number or a schedule: the tangent of the angle by
            which a step turns them, 0.018 in the records. AdamW's own is 0.3 times that.
        momentum: The part of the momentum that survives a step, Keller Jordan's kind.
        momentum_dtype: What the momentum is kept in; by default the dtype of the parameters, or
            float32 where that is narrower.
        method: How to orthogonalize; see `gradsmith.matrix.orthogonalize`.
        precision: In which arithmetic; see there.
        placement: Where matrices are computed on a mesh; see `per_stack`.
        **shared: See `Shared`.

    Raises:
        ValueError: An argument is out of its range; at `init`, where a leaf is ambiguous; `update`
            gets no params.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.muonh(0.018)

    References:
        modded-nanogpt, optimization track, record 5, https://github.com/KellerJordan/modded-nanogpt
    """
    rule = optax.chain(polar_factor(method, precision=precision), hyperball(learning_rate))
    step = behind_momentum(rule, momentum, momentum_dtype, placement)
    return by_role(step, learning_rate, ADAM_SHARE, has_rate=True, **shared)


@takes_shared
def adamh(
    learning_rate: ScalarOrSchedule,
    *,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.95,
    eps: ArrayLike = 1e-8,
    placement: Placement = "owners",
    **shared: Unpack[Shared],
) -> optax.GradientTransformationExtraArgs:
    """Adam on hidden matrices that keep their lengths, AdamW for everything else.

    See `hyperball`, which needs `params`, and matrices that do not start at zero. As the matrices
    keep their lengths, `weight_decay` is for the other leaves; a matrix with an `lr_scales` of its
    own does not keep it. State: that of Adam.

    Args:
        learning_rate: That of the matrices, a number or a schedule: the tangent of the angle by
            which a step turns them. The record rises to 0.018 in 250 steps, then falls to zero in
            a line. AdamW's own is 0.3 times that.
        b1: The part of the mean of the matrices that survives a step.
        b2: The part of their mean square that survives a step.
        eps: Added to the root of their mean square.
        placement: Where matrices are computed on a mesh; see `per_stack`.
        **shared: See `Shared`.

    Raises:
        ValueError: An argument is out of its range; at `init`, where a leaf is ambiguous; `update`
            gets no params.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.adamh(0.018)

    References:
        modded-nanogpt, optimization track, record 4, https://github.com/KellerJordan/modded-nanogpt
    """

    def step(axes: Axes) -> optax.GradientTransformation:
        rule = hyperball(learning_rate)
        return optax.chain(
            scale_by_adam(b1, b2, eps), per_stack(rule, axes=axes, placement=placement)
        )

    return by_role(step, learning_rate, ADAM_SHARE, has_rate=True, **shared)
