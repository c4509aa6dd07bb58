"""SOAP-Muon: Muon, whose momentum is whitened in SOAP's basis before it is orthogonalized."""

from collections.abc import Callable
from typing import Unpack

import optax
from jax.typing import ArrayLike

from ..layout.declare import Axes
from ..lift.per_stack import per_stack
from ..matrix.polar.plan import Method
from ..sites.placement import Placement
from ..transforms.arguments import ScalarOrSchedule
from ..transforms.kronecker import Sides
from ..transforms.orthogonalize import polar_factor
from ..transforms.shape_scale import scale_by_aspect_ratio
from ..transforms.whiten_momentum import whiten_momentum
from ..xla.arithmetic import Precision
from .muon import ADAM_SHARE
from .shared import Shared, by_role, takes_shared


@takes_shared
def soap_muon(
    learning_rate: ScalarOrSchedule,
    *,
    momentum: ScalarOrSchedule = 0.95,
    b2: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    refresh_every: ArrayLike = 1,
    sides: Sides = "both",
    max_side: int | None = None,
    method: Method | None = None,
    precision: Precision | None = None,
    placement: Placement = "owners",
    **shared: Unpack[Shared],
) -> optax.GradientTransformationExtraArgs:
    """SOAP-Muon for the hidden matrices, AdamW for everything else.

    The momentum is whitened in the eigenbasis of the gradients' covariance, then orthogonalized.
    State and cost are those of `soap` and the products of `muon`; with `refresh_every=1`, as in
    the modded-nanogpt records, every step has a step of QR for each side. The first step is
    Muon's. docs/records.md has the records' whole chains.

    Args:
        learning_rate: That of the matrices, a number or a schedule; 0.0375 in the records. It is
            the spectral norm of an update where layers narrow. AdamW's own is 0.3 times that.
        momentum: The part of the momentum that survives a step, a number or a schedule such as
            `trapezoid`; Keller Jordan's kind.
        b2: The part of the mean square, and of the factors, that survives a step.
        eps: The least root mean square that is divided by; see `whiten_momentum`.
        refresh_every: The number of steps between refreshes of the bases.
        sides: Which sides have a basis: 'both', 'fan_in', 'fan_out', or the 'smaller' alone.
        max_side: A side longer than this has none; by default 10,000. A matrix without any gets
            Muon.
        method: How to orthogonalize; see `gradsmith.matrix.orthogonalize`.
        precision: In which arithmetic; see there.
        placement: Where matrices are computed on a mesh; see `per_stack`.
        **shared: See `Shared`.

    Raises:
        ValueError: An argument is out of its range; at `init`, where a leaf is ambiguous.
        TypeError: `max_side` is an array: it decides the shape of the state.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.soap_muon(0.02, weight_decay=0.01)

    References:
        modded-nanogpt, optimization track, records 14 to 46.
        https://github.com/KellerJordan/modded-nanogpt
    """
    direction = whitened_muon(
        momentum,
        b2,
        eps,
        refresh_every=refresh_every,
        sides=sides,
        max_side=max_side,
        method=method,
        precision=precision,
        placement=placement,
    )
    return by_role(direction, learning_rate, ADAM_SHARE, **shared)


def whitened_muon(
    momentum: ScalarOrSchedule,
    b2: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    *,
    refresh_every: ArrayLike,
    sides: Sides,
    max_side: int | None = None,
    method: Method | None = None,
    precision: Precision | None,
    placement: Placement,
) -> Callable[[Axes], optax.GradientTransformation]:
    """Return the direction of Muon behind a whitened momentum, for `by_role`."""
    rule = optax.chain(
        whiten_momentum(
            momentum, b2, eps, refresh_every=refresh_every, sides=sides, max_side=max_side
        ),
        polar_factor(method, precision=precision),
        scale_by_aspect_ratio(),
    )
    return lambda axes: per_stack(rule, axes=axes, placement=placement)
