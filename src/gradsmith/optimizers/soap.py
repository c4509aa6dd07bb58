"""SOAP and KL-SOAP: Adam in the eigenbasis of the gradients' covariance."""

from typing import Unpack

import optax
from jax.typing import ArrayLike

from ..lift.per_stack import per_stack
from ..sites.placement import Placement
from ..transforms.arguments import ScalarOrSchedule
from ..transforms.kronecker import Sides
from ..transforms.soap import Factors, scale_by_soap
from .shared import Shared, by_role, takes_shared


@takes_shared
def soap(
    learning_rate: ScalarOrSchedule,
    *,
    b1: ArrayLike = 0.95,
    b2: ArrayLike = 0.95,
    eps: ArrayLike = 1e-8,
    factors: Factors = "shampoo",
    refresh_every: ArrayLike = 10,
    sides: Sides = "both",
    max_side: int | None = None,
    placement: Placement = "owners",
    **shared: Unpack[Shared],
) -> optax.GradientTransformationExtraArgs:
    """SOAP, or KL-SOAP, for the hidden matrices, AdamW for everything else.

    State and cost are those of `scale_by_soap`; it takes matrix products only. If gradients have
    low rank, two runs that differ by round-off soon differ by whole updates. `scale_by_soap` says
    how to keep them together.

    Args:
        learning_rate: That of all leaves, a number or a schedule, on AdamW's scale; typically
            3e-3.
        b1: The part of the mean of the matrices that survives a step.
        b2: The part of their mean square, and of the factors, that survives a step.
        eps: Added to the root of their mean square.
        factors: 'shampoo', or 'kl' for KL-SOAP.
        refresh_every: The number of steps between refreshes of the bases.
        sides: Which sides have a basis: 'both', 'fan_in', 'fan_out', or the 'smaller' alone.
        max_side: A side longer than this has none; by default 10,000.
        placement: Where matrices are computed on a mesh; see `per_stack`.
        **shared: See `Shared`.

    Raises:
        ValueError: An argument is out of its range; at `init`, where a leaf is ambiguous.
        TypeError: `max_side` is an array: it decides the shape of the state.

    Examples:
        >>> import gradsmith as gs
        >>> kl_soap = gs.soap(3e-3, factors="kl")

    References:
        Vyas et al., SOAP, 2024, arXiv:2409.11321; Lin et al., KL-Shampoo, 2025, arXiv:2509.03378.
    """
    rule = scale_by_soap(
        b1, b2, eps, factors=factors, refresh_every=refresh_every, sides=sides, max_side=max_side
    )
    direction = lambda axes: per_stack(rule, axes=axes, placement=placement)
    return by_role(direction, learning_rate, **shared)
