"""Optimizers, each a short chain that reads like its paper: wiring, and nothing else."""

from collections.abc import Callable
from typing import Literal, get_args

import optax
from jaxtyping import Array

from .lifting.declare import Axes
from .lifting.placement import Placement
from .lifting.roles import Said, partition_by_role
from .matrix.coefficients import Schedule
from .matrix.plan import Method
from .transforms.adam import scale_by_adam
from .transforms.momentum import MomentumKind
from .transforms.momentum import momentum as momentum_of
from .transforms.orthogonalize import orthogonalize_tree
from .transforms.shape_scale import match_operator_norm, match_rms, scale_by_aspect_ratio
from .transforms.weight_decay import decay_weights

ShapeScale = Literal["aspect_ratio", "match_rms", "match_operator_norm", "none"]

_SHAPE_SCALES: dict[str, Callable[[], optax.GradientTransformation]] = {
    "aspect_ratio": scale_by_aspect_ratio,
    "match_rms": match_rms,
    "match_operator_norm": match_operator_norm,
    "none": optax.identity,
}


def muon(
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: float | Array = 0.95,
    momentum_kind: MomentumKind = "ema_nesterov",
    method: Method | None = None,
    coefficients: str | Schedule | None = None,
    steps: int | None = None,
    max_error: float | None = None,
    eps: float | Array = 0.0,
    scale: ShapeScale = "aspect_ratio",
    weight_decay: float | Array = 0.0,
    adam_learning_rate: optax.ScalarOrSchedule | None = None,
    axes: Axes = None,
    placement: Placement = "owners",
    roles: Said | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Muon for the hidden matrices, AdamW for everything else.

    The defaults are Keller Jordan's code, in the precision of the parameters. Every published Muon
    is reachable by arguments; docs/muon.md has the table.

    State: one copy of the matrices, two of everything else. Costs five Newton-Schulz steps on each
    Gram matrix, `4 m^2 n + 34 m^3` flops for `m <= n`, a quarter less on CPUs where `m` is large;
    with `max_error=0.32` a third of that, for updates that are at least as orthogonal.
    `update(grads, state)` works without `params` as long as there is no weight decay.

    Args:
        learning_rate: Of the matrices: a number or a schedule, in units of the shape scale. With
            'aspect_ratio' it is the spectral norm of an update, typically 0.02; with 'match_rms'
            it is on AdamW's scale.
        momentum: The part of the momentum that survives a step.
        momentum_kind: The convention, by name; see `momentum`.
        method: How to orthogonalize; see `gradsmith.matrix.orthogonalize`.
        coefficients: The Newton-Schulz schedule, by default Keller Jordan's.
        steps: The number of its steps, where it leaves a choice.
        max_error: Instead of these three: how far from 1 a singular value of the update may be, for
            the cheapest method that keeps it; see `gradsmith.matrix.orthogonalize`.
        eps: Added to the Frobenius norm before the iteration; see `gradsmith.matrix.newton_schulz`.
        scale: The length of an update by its shape: 'aspect_ratio' `sqrt(max(1, out / in))`,
            'match_rms' `0.2 sqrt(max(in, out))`, 'match_operator_norm' `sqrt(out / in)`, or 'none'.
        weight_decay: Decoupled, of all parameters, times the learning rate of each.
        adam_learning_rate: Of the AdamW part, betas (0.9, 0.95) and eps 1e-10. By default
            `learning_rate` itself with 'match_rms', which is made for that, and otherwise 0.3
            times `learning_rate`: 6e-3 where Muon has 0.02.
        axes: Which axes of which leaf are fan-in, fan-out and stack; see `per_stack`.
        placement: Where matrices are computed on a mesh; see `per_stack`.
        roles: `{pattern: role or axes}` where names and ranks tell the wrong thing; see
            `partition_by_role`.

    Raises:
        ValueError: An argument names no convention; at `init`, where a leaf is ambiguous.

    Examples:
        >>> import jax, jax.numpy as jnp, optax
        >>> import gradsmith as gs
        >>> params = {"kernel": jnp.ones((2, 2)), "bias": jnp.zeros(2)}
        >>> loss = lambda p: jnp.sum((jnp.eye(2) @ p["kernel"] + p["bias"]) ** 2)
        >>> optimizer = gs.muon(0.1)
        >>> state = optimizer.init(params)
        >>> for _ in range(20):
        ...     updates, state = optimizer.update(jax.grad(loss)(params), state)
        ...     params = optax.apply_updates(params, updates)
        >>> print(loss(params) < 0.1)
        True

    References:
        Jordan et al., Muon, 2024, https://kellerjordan.github.io/posts/muon/ and
        https://github.com/KellerJordan/Muon
    """
    if scale not in get_args(ShapeScale):
        raise ValueError(f"no scale is called {scale!r}; there are {', '.join(_SHAPE_SCALES)}")
    if adam_learning_rate is None:
        adam_learning_rate = _times(1.0 if scale == "match_rms" else 0.3, learning_rate)

    def matrices(axes: Axes) -> optax.GradientTransformation:
        return optax.chain(
            momentum_of(momentum, momentum_kind),
            orthogonalize_tree(
                method,
                coefficients=coefficients,
                steps=steps,
                max_error=max_error,
                eps=eps,
                then=_SHAPE_SCALES[scale](),
                axes=axes,
                placement=placement,
            ),
            decay_weights(weight_decay),
            optax.scale_by_learning_rate(learning_rate),
        )

    others = optax.chain(
        scale_by_adam(b1=0.9, b2=0.95, eps=1e-10),
        decay_weights(weight_decay),
        optax.scale_by_learning_rate(adam_learning_rate),
    )
    return partition_by_role(matrices, others, axes=axes, roles=roles)


def _times(factor: float, rate: optax.ScalarOrSchedule) -> optax.ScalarOrSchedule:
    return (lambda count: factor * rate(count)) if callable(rate) else factor * rate
