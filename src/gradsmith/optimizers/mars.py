"""MARS: Muon, or AdamW, on variance-reduced gradients."""

from typing import Unpack

import optax
from jax.typing import ArrayLike, DTypeLike

from ..layout.declare import Axes
from ..lift.per_matrix import per_matrix
from ..matrix.polar.plan import Method
from ..sites.placement import Placement
from ..transforms.adam import scale_by_adam
from ..transforms.arguments import ScalarOrSchedule
from ..transforms.mars import correct_by_mars
from ..transforms.momentum import momentum as momentum_of
from ..transforms.orthogonalize import orthogonalize
from ..transforms.shape_scale import match_rms
from ..transforms.weight_decay import Mask
from ..xla.arithmetic import Precision
from .shared import Shared, by_role, no_vectors, stepped, takes_shared


@takes_shared
def mars_muon(
    learning_rate: ScalarOrSchedule,
    *,
    gamma: ArrayLike = 0.025,
    momentum: ArrayLike = 0.95,
    momentum_dtype: DTypeLike | None = None,
    method: Method | None = None,
    precision: Precision | None = None,
    placement: Placement = "owners",
    **shared: Unpack[Shared],
) -> optax.GradientTransformationExtraArgs:
    """Muon on variance-reduced gradients for the hidden matrices, AdamW for everything else.

    Each corrected matrix is clipped to norm 1. State: two copies of the matrices.

    Args:
        learning_rate: That of all leaves, a number or a schedule. It is on AdamW's scale, as that
            of `muon` with 'match_rms' is.
        gamma: How much of the correction is used.
        momentum: The part of the momentum that survives a step, also in the correction.
        momentum_dtype: What the momentum is kept in; by default the dtype of the parameters, or
            float32 where that is narrower.
        method: How to orthogonalize; see `gradsmith.matrix.orthogonalize`.
        precision: In which arithmetic; see there.
        placement: Where matrices are computed on a mesh; see `per_stack`.
        **shared: See `Shared`.

    Raises:
        ValueError: An argument is out of its range; at `init`, where a leaf is ambiguous.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.mars_muon(3e-3, weight_decay=0.1)

    References:
        Liu et al., MARS-M, 2025, arXiv:2510.21800.
    """

    def direction(axes: Axes) -> optax.GradientTransformation:
        return optax.chain(
            per_matrix(correct_by_mars(gamma, momentum), axes=axes, placement=placement),
            momentum_of(momentum, "ema", momentum_dtype),
            orthogonalize(
                method,
                precision=precision,
                postprocess=match_rms(),
                axes=axes,
                placement=placement,
            ),
        )

    return by_role(direction, learning_rate, **shared)


def mars_adamw(
    learning_rate: ScalarOrSchedule,
    *,
    gamma: ArrayLike = 0.025,
    b1: ArrayLike = 0.95,
    b2: ArrayLike = 0.99,
    eps: ArrayLike = 1e-8,
    weight_decay: ScalarOrSchedule | None = None,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformation:
    """AdamW on variance-reduced gradients, for all parameters; typically at 3e-3.

    Each corrected leaf is clipped to norm 1. State: three copies of the parameters.

    Args:
        learning_rate: A number or a schedule, on AdamW's scale.
        gamma: How much of the correction is used.
        b1: The part of the mean that survives a step, also in the correction.
        b2: The part of the mean square that survives a step.
        eps: Added to the root of the mean square.
        weight_decay: Decoupled, times the learning rate; by default none.
        weight_decay_mask: What decays: a tree of bools, or a prefix of one, or a function of the
            parameters that returns it. By default all but vectors: no biases, norms and gains.

    Raises:
        ValueError: An argument is out of its range.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.mars_adamw(3e-3, weight_decay=0.1)

    References:
        Yuan et al., MARS, 2024, arXiv:2411.10438.
    """
    corrected = optax.chain(correct_by_mars(gamma, b1), scale_by_adam(b1, b2, eps))
    mask = no_vectors if weight_decay_mask is None else weight_decay_mask
    return stepped(corrected, learning_rate, weight_decay, mask)
