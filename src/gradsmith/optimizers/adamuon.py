"""AdaMuon and NAMO: Adam's second moment behind Muon's direction, of each entry or of the norm."""

from typing import Unpack

import optax
from jax.typing import ArrayLike, DTypeLike

from ..lift.per_stack import per_stack
from ..matrix.polar.plan import Method
from ..sites.placement import Placement
from ..transforms.arguments import ScalarOrSchedule
from ..transforms.entry_rms import scale_by_entry_rms
from ..transforms.namo import scale_by_namo
from ..transforms.orthogonalize import polar_factor
from ..transforms.shape_scale import match_rms
from ..xla.arithmetic import Precision
from .shared import Shared, behind_momentum, by_role, takes_shared


@takes_shared
def adamuon(
    learning_rate: ScalarOrSchedule,
    *,
    momentum: ArrayLike = 0.95,
    momentum_dtype: DTypeLike | None = None,
    entry_decay: ArrayLike = 0.95,
    method: Method | None = None,
    precision: Precision | None = None,
    placement: Placement = "owners",
    **shared: Unpack[Shared],
) -> optax.GradientTransformationExtraArgs:
    """AdaMuon for the hidden matrices, AdamW for everything else.

    The polar factor of the sign of the momentum, divided by a running root mean square of its
    entries. State: two copies of all parameters. Costs are those of `muon`. The sign is not
    equivariant: in another basis of the units, this is another optimizer.

    Args:
        learning_rate: That of all leaves, a number or a schedule, on AdamW's scale: the entries of
            an update have an RMS of 0.2.
        momentum: The part of the momentum that survives a step, Keller Jordan's kind.
        momentum_dtype: What the momentum is kept in; by default the dtype of the parameters, or
            float32 where that is narrower.
        entry_decay: The part of the entries' mean square that survives a step.
        method: How to orthogonalize; see `gradsmith.matrix.orthogonalize`.
        precision: In which arithmetic; see there.
        placement: Where matrices are computed on a mesh; see `per_stack`.
        **shared: See `Shared`.

    Raises:
        ValueError: An argument is out of its range; at `init`, where a leaf is ambiguous.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.adamuon(2e-3, weight_decay=0.01)

    References:
        Si et al., AdaMuon, 2025, arXiv:2507.11005 and https://github.com/Chongjie-Si/AdaMuon
    """
    rule = optax.chain(
        optax.scale_by_sign(),
        polar_factor(method, precision=precision),
        scale_by_entry_rms(entry_decay),
    )
    direction = behind_momentum(rule, momentum, momentum_dtype, placement)
    return by_role(direction, learning_rate, **shared)


@takes_shared
def namo(
    learning_rate: ScalarOrSchedule,
    *,
    b1: ArrayLike = 0.95,
    b2: ArrayLike = 0.99,
    eps: ArrayLike = 1e-8,
    method: Method | None = None,
    precision: Precision | None = None,
    placement: Placement = "owners",
    **shared: Unpack[Shared],
) -> optax.GradientTransformationExtraArgs:
    """NAMO for the hidden matrices, AdamW for everything else.

    Muon with steps that become shorter where gradients are noise; see `scale_by_namo`. The weight
    decay is that of AdamW, which others found better than the paper's. State and cost are those of
    `muon`, and one number a matrix.

    Args:
        learning_rate: That of all leaves, a number or a schedule, on AdamW's scale: the entries of
            an update have an RMS of about 0.2.
        b1: The part of the momentum that survives a step, Keller Jordan's kind.
        b2: The part of the norms' mean square that survives a step.
        eps: Added to the root of that.
        method: How to orthogonalize; see `gradsmith.matrix.orthogonalize`.
        precision: In which arithmetic; see there.
        placement: Where matrices are computed on a mesh; see `per_stack`.
        **shared: See `Shared`.

    Raises:
        ValueError: An argument is out of its range; at `init`, where a leaf is ambiguous.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.namo(2e-3, weight_decay=0.01)

    References:
        Zhang et al., Adam Improves Muon, 2026, arXiv:2602.17080.
    """
    polar = optax.chain(polar_factor(method, precision=precision), match_rms())
    rule = scale_by_namo(polar, b1, b2, eps)
    direction = lambda axes: per_stack(rule, axes=axes, placement=placement)
    return by_role(direction, learning_rate, **shared)
