"""Muon: a momentum, its polar factor, and a length; every convention by name."""

from collections.abc import Callable
from typing import Literal, Unpack

import optax
from jax.typing import ArrayLike, DTypeLike

from ..layout.declare import Axes
from ..matrix.polar.coefficients import Schedule
from ..matrix.polar.plan import Method
from ..sites.placement import Placement
from ..transforms.arguments import ScalarOrSchedule, check_choice
from ..transforms.momentum import MomentumKind
from ..transforms.momentum import momentum as momentum_of
from ..transforms.orthogonalize import orthogonalize
from ..transforms.shape_scale import match_operator_norm, match_rms, scale_by_aspect_ratio
from ..xla.arithmetic import Precision
from .shared import Shared, by_role, takes_shared

ShapeScale = Literal["aspect_ratio", "match_rms", "match_operator_norm", "none"]

_SHAPE_SCALES: dict[str, Callable[[], optax.GradientTransformation]] = {
    "aspect_ratio": scale_by_aspect_ratio,
    "match_rms": match_rms,
    "match_operator_norm": match_operator_norm,
    "none": optax.identity,
}
ADAM_SHARE = 0.3
"""AdamW's part of a rate that is a spectral norm; by a race, see docs/muon.md."""


@takes_shared
def muon(
    learning_rate: ScalarOrSchedule,
    *,
    momentum: ScalarOrSchedule = 0.95,
    momentum_kind: MomentumKind = "ema_nesterov",
    momentum_dtype: DTypeLike | None = None,
    method: Method | None = None,
    coefficients: str | Schedule | None = None,
    steps: int | None = None,
    max_error: float | None = None,
    eps: ArrayLike = 0.0,
    precision: Precision | None = None,
    shape_scale: ShapeScale = "aspect_ratio",
    placement: Placement = "owners",
    **shared: Unpack[Shared],
) -> optax.GradientTransformationExtraArgs:
    """Muon for the hidden matrices, AdamW for everything else.

    The defaults are those of Keller Jordan's code, but the target decides the arithmetic of the
    iteration; see `precision`. Arguments make it any published Muon; docs/muon.md has the table.

    State: one copy of the matrices, two of everything else. Costs five Newton-Schulz steps on each
    Gram matrix, `4 m^2 n + 34 m^3` flops for `m <= n`, a quarter less from `Target.blocks_from` on;
    with `max_error=0.32` a third of that, for updates that are at least as orthogonal.
    `update(grads, state)` works without `params` as long as there is no weight decay.

    Args:
        learning_rate: That of the matrices, a number or a schedule, in units of the shape scale.
            With 'aspect_ratio' it is the spectral norm of an update, typically 0.02. With
            'match_rms' it is on AdamW's scale, and AdamW has the same. Otherwise AdamW has 0.3
            times `learning_rate`: 6e-3 where Muon has 0.02.
        momentum: The part of the momentum that survives a step, a number or a schedule such as
            `trapezoid`.
        momentum_kind: The convention, by name; see `momentum`.
        momentum_dtype: What the momentum is kept in; by default the dtype of the parameters, or
            float32 where that is narrower.
        method: How to orthogonalize; see `gradsmith.matrix.orthogonalize`.
        coefficients: The Newton-Schulz schedule, by default Keller Jordan's.
        steps: The number of its steps, where it leaves a choice.
        max_error: Instead of these three: how far from 1 a singular value of the update may be, for
            the cheapest method that keeps it; see `gradsmith.matrix.orthogonalize`.
        eps: Added to the Frobenius norm before the iteration; see `gradsmith.matrix.newton_schulz`.
        precision: The arithmetic of the orthogonalization; by default the target's fastest. See
            `gradsmith.matrix.orthogonalize`.
        shape_scale: The length of an update by its shape: 'aspect_ratio' `sqrt(max(1, out / in))`,
            'match_rms' `0.2 sqrt(max(in, out))`, 'match_operator_norm' `sqrt(out / in)`, or 'none'.
        placement: Where matrices are computed on a mesh; see `per_stack`.
        **shared: See `Shared`.

    Raises:
        ValueError: An argument names no convention; at `init`, where a leaf is ambiguous.
        TypeError: An array is given for what decides the program, such as `steps`.

    Examples:
        >>> import jax, jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> params = {"kernel": jnp.ones((2, 2)), "bias": jnp.zeros(2)}
        >>> loss = lambda p: jnp.sum(p["kernel"] ** 2) + jnp.sum((p["bias"] - 1) ** 2)
        >>> optimizer = gs.muon(0.1)
        >>> state = optimizer.init(params)
        >>> for _ in range(30):
        ...     updates, state = optimizer.update(jax.grad(loss)(params), state)
        ...     params = optax.apply_updates(params, updates)
        >>> print(loss(params) < 0.1)
        True

    References:
        Jordan et al., Muon, 2024, https://kellerjordan.github.io/posts/muon/ and
        https://github.com/KellerJordan/Muon
    """
    check_choice("shape_scale", shape_scale, ShapeScale)

    def direction(axes: Axes) -> optax.GradientTransformation:
        return optax.chain(
            momentum_of(momentum, momentum_kind, momentum_dtype),
            orthogonalize(
                method,
                coefficients=coefficients,
                steps=steps,
                max_error=max_error,
                eps=eps,
                precision=precision,
                postprocess=_SHAPE_SCALES[shape_scale](),
                axes=axes,
                placement=placement,
            ),
        )

    share = 1.0 if shape_scale == "match_rms" else ADAM_SHARE
    return by_role(direction, learning_rate, share, **shared)
