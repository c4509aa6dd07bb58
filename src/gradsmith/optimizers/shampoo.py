"""Shampoo at the length of Adam's steps, and one-sided Shampoo, which is ASGO."""

from typing import Unpack

import optax
from jax.typing import ArrayLike

from ..lift.per_stack import per_stack
from ..matrix.roots import RootMethod
from ..sites.placement import Placement
from ..transforms.adam import scale_by_adam
from ..transforms.arguments import ScalarOrSchedule, check_fixed
from ..transforms.blocks import per_block
from ..transforms.graft import graft
from ..transforms.shampoo import scale_by_shampoo
from .shared import Shared, by_role, takes_shared


@takes_shared
def shampoo(
    learning_rate: ScalarOrSchedule,
    *,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.95,
    eps: ArrayLike = 1e-6,
    refresh_every: ArrayLike = 10,
    root: RootMethod = "eigh",
    max_block: int | None = None,
    placement: Placement = "owners",
    **shared: Unpack[Shared],
) -> optax.GradientTransformationExtraArgs:
    """Shampoo at the length of Adam's steps for the hidden matrices, AdamW for everything else.

    State for `(m, n)` in one block: `3 m n + 2 m^2 + 2 n^2`.

    Args:
        learning_rate: That of all leaves, a number or a schedule, on AdamW's scale.
        b1: The part of the mean gradient that survives a step, also of the Adam that gives the
            length.
        b2: The part of the factors that survives a step, also of that Adam's mean square.
        eps: The ridge under the roots, relative to the norm of the factor.
        refresh_every: The number of steps between roots; AlgoPerf was won with 100.
        root: How they are taken: 'eigh' or 'newton'; see `gradsmith.matrix.inverse_root`.
        max_block: The longest side of a block, by default 1024; each block is preconditioned and
            grafted alone.
        placement: Where matrices are computed on a mesh; see `per_stack`.
        **shared: See `Shared`.

    Raises:
        ValueError: An argument is out of its range; at `init`, where a leaf is ambiguous.
        TypeError: `max_block` is an array: it decides the shape of the state.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.shampoo(1e-3, refresh_every=100)

    References:
        Gupta et al., 2018, arXiv:1802.09568; Shi et al., 2023, arXiv:2309.06497.
    """
    check_fixed("shampoo", max_block=max_block)
    rule = graft(
        scale_by_shampoo(b1, b2, eps, refresh_every=refresh_every, root=root),
        scale_by_adam(b1, b2, 1e-10),
    )
    blocks = per_block(rule, 1024 if max_block is None else max_block)
    direction = lambda axes: per_stack(blocks, axes=axes, placement=placement)
    return by_role(direction, learning_rate, **shared)


@takes_shared
def asgo(
    learning_rate: ScalarOrSchedule,
    *,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.95,
    eps: ArrayLike = 1e-6,
    refresh_every: ArrayLike = 10,
    placement: Placement = "owners",
    **shared: Unpack[Shared],
) -> optax.GradientTransformationExtraArgs:
    """One-sided Shampoo on the smaller side for the hidden matrices, AdamW for everything else.

    State for `(m, n)`: `m n + 2 min(m, n)^2`. Nothing is grafted or debiased: the first update has
    spectral norm `(1 - b1) / sqrt(1 - b2)` times the rate.

    Args:
        learning_rate: That of all leaves, a number or a schedule.
        b1: The part of the mean gradient that survives a step.
        b2: The part of the factor that survives a step.
        eps: The ridge under the root, relative to the norm of the factor.
        refresh_every: The number of steps between roots.
        placement: Where matrices are computed on a mesh; see `per_stack`.
        **shared: See `Shared`.

    Raises:
        ValueError: An argument is out of its range; at `init`, where a leaf is ambiguous.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.asgo(0.01)

    References:
        An et al., ASGO, 2025, arXiv:2503.20762.
    """
    rule = scale_by_shampoo(b1, b2, eps, memory="ema", refresh_every=refresh_every, sides="smaller")
    direction = lambda axes: per_stack(rule, axes=axes, placement=placement)
    return by_role(direction, learning_rate, **shared)
