"""PSGD Kron: whitened by factors that learn it, without a root or a decomposition."""

from typing import Unpack

import optax
from jax.typing import ArrayLike

from ..lift.per_stack import per_stack
from ..sites.placement import Placement
from ..transforms.arguments import ScalarOrSchedule
from ..transforms.kronecker import Sides
from ..transforms.psgd import scale_by_psgd
from .shared import Shared, by_role, takes_shared


@takes_shared
def kron(
    learning_rate: ScalarOrSchedule,
    *,
    b1: ArrayLike = 0.9,
    factor_rate: ArrayLike = 0.1,
    factor_decay: ArrayLike = 0.9,
    damping: ArrayLike = 1e-9,
    refresh_every: ArrayLike = 1,
    sides: Sides = "both",
    max_side: int | None = None,
    placement: Placement = "owners",
    **shared: Unpack[Shared],
) -> optax.GradientTransformationExtraArgs:
    """PSGD Kron for the hidden matrices, AdamW for everything else.

    State and cost are those of `scale_by_psgd`; nothing but matrix products.

    Args:
        learning_rate: That of all leaves, a number or a schedule; about a third of AdamW's,
            typically 1e-3. It wants a weight decay several times that of AdamW.
        b1: The part of the momentum of the matrices that survives a step.
        factor_rate: The learning rate of the factors.
        factor_decay: The part of the bound of their steps that survives a step.
        damping: The root mean square of gradients that count as noise.
        refresh_every: The number of steps between fits of the factors.
        sides: Which sides have a factor: 'both', 'fan_in', 'fan_out', or the 'smaller' alone.
        max_side: A side longer than this has none; by default 10,000.
        placement: Where matrices are computed on a mesh; see `per_stack`.
        **shared: See `Shared`.

    Raises:
        ValueError: An argument is out of its range; at `init`, where a leaf is ambiguous.
        TypeError: `max_side` is an array: it decides the shape of the state.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.kron(1e-3, weight_decay=0.5)

    References:
        Li, Preconditioned Stochastic Gradient Descent, 2018, arXiv:1512.04202; Pooladzandi and Li,
        2024, arXiv:2402.04553; https://github.com/lixilinx/psgd_torch
    """
    rule = scale_by_psgd(
        b1,
        factor_rate=factor_rate,
        factor_decay=factor_decay,
        damping=damping,
        refresh_every=refresh_every,
        sides=sides,
        max_side=max_side,
    )
    direction = lambda axes: per_stack(rule, axes=axes, placement=placement)
    return by_role(direction, learning_rate, **shared)
