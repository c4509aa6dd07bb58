"""MuonEq: Muon that does not see that some neurons have larger gradients than others."""

from typing import Unpack

import optax
from jax.typing import ArrayLike, DTypeLike

from ..matrix.polar.plan import Method
from ..sites.placement import Placement
from ..transforms.arguments import ScalarOrSchedule
from ..transforms.normalize_neurons import normalize_neurons
from ..transforms.orthogonalize import polar_factor
from ..transforms.shape_scale import scale_by_aspect_ratio
from ..xla.arithmetic import Precision
from .muon import ADAM_SHARE
from .shared import Shared, behind_momentum, by_role, takes_shared


@takes_shared
def muoneq(
    learning_rate: ScalarOrSchedule,
    *,
    momentum: ArrayLike = 0.95,
    momentum_dtype: DTypeLike | None = None,
    method: Method | None = None,
    precision: Precision | None = None,
    placement: Placement = "owners",
    **shared: Unpack[Shared],
) -> optax.GradientTransformationExtraArgs:
    """MuonEq-R for the hidden matrices, AdamW for everything else.

    Muon, with every neuron's part of the momentum brought to one length before the polar factor.
    State and cost are those of `muon`. Where neurons are orthogonal, it is `muon`.

    Args:
        learning_rate: That of the matrices, a number or a schedule; typically 0.02. It is the
            spectral norm of an update where layers narrow. AdamW's own is 0.3 times that.
        momentum: The part of the momentum that survives a step, Keller Jordan's kind.
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
        >>> optimizer = gs.muoneq(0.02, weight_decay=0.01)

    References:
        Q Labs, slowrun, https://github.com/qlabs-eng/slowrun
    """
    rule = optax.chain(
        normalize_neurons(), polar_factor(method, precision=precision), scale_by_aspect_ratio()
    )
    direction = behind_momentum(rule, momentum, momentum_dtype, placement)
    return by_role(direction, learning_rate, ADAM_SHARE, **shared)
