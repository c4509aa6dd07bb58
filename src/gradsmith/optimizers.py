"""Optimizers, each a short chain that reads like its paper: wiring, and nothing else."""

from collections.abc import Callable
from typing import Literal, get_args

import optax
from jaxtyping import Array

from .layout.declare import Axes
from .layout.roles import RoleOverrides
from .lift.partition_by_role import partition_by_role
from .lift.per_matrix import per_matrix
from .lift.per_stack import per_stack
from .matrix.polar.coefficients import Schedule
from .matrix.polar.plan import Method
from .matrix.roots import RootMethod
from .sites.placement import Placement
from .transforms.adam import scale_by_adam
from .transforms.ademamix import scale_by_ademamix
from .transforms.blocks import per_block
from .transforms.graft import graft
from .transforms.kronecker import Sides
from .transforms.mars import correct_by_mars
from .transforms.momentum import MomentumKind
from .transforms.momentum import momentum as momentum_of
from .transforms.neuron_rms import NeuronAxis, scale_by_neuron_rms
from .transforms.orthogonalize import orthogonalize_tree
from .transforms.shampoo import scale_by_shampoo
from .transforms.shape_scale import match_operator_norm, match_rms, scale_by_aspect_ratio
from .transforms.sides import scale_by_learning_rate
from .transforms.soap import Factors, scale_by_soap
from .transforms.weight_decay import decay_weights

ShapeScale = Literal["aspect_ratio", "match_rms", "match_operator_norm", "none"]

_SHAPE_SCALES: dict[str, Callable[[], optax.GradientTransformation]] = {
    "aspect_ratio": scale_by_aspect_ratio,
    "match_rms": match_rms,
    "match_operator_norm": match_operator_norm,
    "none": optax.identity,
}
_ADAM_SHARE = 0.3  # of a rate that is a spectral norm, for AdamW; by a race, see docs/muon.md


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
    shape_scale: ShapeScale = "aspect_ratio",
    weight_decay: float | Array = 0.0,
    adam_learning_rate: optax.ScalarOrSchedule | None = None,
    axes: Axes = None,
    placement: Placement = "owners",
    roles: RoleOverrides | None = None,
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
        shape_scale: The length of an update by its shape: 'aspect_ratio' `sqrt(max(1, out / in))`,
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
    if shape_scale not in get_args(ShapeScale):
        raise ValueError(
            f"no shape_scale is called {shape_scale!r}; there are {', '.join(_SHAPE_SCALES)}"
        )
    if adam_learning_rate is None:
        adam_learning_rate = _times(
            1.0 if shape_scale == "match_rms" else _ADAM_SHARE, learning_rate
        )

    def direction(axes: Axes) -> optax.GradientTransformation:
        return optax.chain(
            momentum_of(momentum, momentum_kind),
            orthogonalize_tree(
                method,
                coefficients=coefficients,
                steps=steps,
                max_error=max_error,
                eps=eps,
                postprocess=_SHAPE_SCALES[shape_scale](),
                axes=axes,
                placement=placement,
            ),
        )

    return _with_adamw(direction, learning_rate, weight_decay, adam_learning_rate, axes, roles)


def normuon(
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: float | Array = 0.95,
    neuron_decay: float | Array = 0.95,
    neuron_axis: NeuronAxis = "out",
    method: Method | None = None,
    weight_decay: float | Array = 0.0,
    adam_learning_rate: optax.ScalarOrSchedule | None = None,
    axes: Axes = None,
    placement: Placement = "owners",
    roles: RoleOverrides | None = None,
) -> optax.GradientTransformationExtraArgs:
    """NorMuon for the hidden matrices, AdamW for everything else.

    Muon, whose neurons get equal parts of every update over time. State and cost are those of
    `muon`, and one number a neuron.

    Beside the arguments of `muon`:

        learning_rate: As for `muon`, with its scale 'aspect_ratio'.
        momentum: The part of the momentum that survives a step, Keller Jordan's kind.
        neuron_decay: The part of the neurons' mean square that survives a step.
        neuron_axis: What counts as a neuron: 'out', 'in' or 'long'; see `scale_by_neuron_rms`.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.normuon(0.02, weight_decay=0.01)

    References:
        Li et al., NorMuon, 2025, arXiv:2510.05491.
    """
    rule = optax.chain(scale_by_neuron_rms(neuron_decay, axis=neuron_axis), scale_by_aspect_ratio())

    def direction(axes: Axes) -> optax.GradientTransformation:
        return optax.chain(
            momentum_of(momentum),
            orthogonalize_tree(method, axes=axes, placement=placement),
            per_stack(rule, axes=axes, placement=placement),
        )

    if adam_learning_rate is None:
        adam_learning_rate = _times(_ADAM_SHARE, learning_rate)
    return _with_adamw(direction, learning_rate, weight_decay, adam_learning_rate, axes, roles)


def soap(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float | Array = 0.95,
    b2: float | Array = 0.95,
    factors: Factors = "shampoo",
    refresh_every: int | Array = 10,
    sides: Sides = "both",
    max_side: int = 10_000,
    weight_decay: float | Array = 0.0,
    adam_learning_rate: optax.ScalarOrSchedule | None = None,
    axes: Axes = None,
    placement: Placement = "owners",
    roles: RoleOverrides | None = None,
) -> optax.GradientTransformationExtraArgs:
    """SOAP, or KL-SOAP, for the hidden matrices, AdamW for everything else.

    State and cost are those of `scale_by_soap`; nothing but matrix products.

    Beside the arguments of `muon`:

        learning_rate: On AdamW's scale, typically 3e-3.
        factors: 'shampoo', or 'kl' for KL-SOAP.
        b1, b2, refresh_every, sides, max_side: As for `scale_by_soap`.
        adam_learning_rate: Of the AdamW part, by default `learning_rate`.

    Examples:
        >>> import gradsmith as gs
        >>> kl_soap = gs.soap(3e-3, factors="kl")

    References:
        Vyas et al., SOAP, 2024, arXiv:2409.11321; Lin et al., KL-Shampoo, 2025, arXiv:2509.03378.
    """
    rule = scale_by_soap(
        b1, b2, factors=factors, refresh_every=refresh_every, sides=sides, max_side=max_side
    )
    direction = lambda axes: per_stack(rule, axes=axes, placement=placement)
    return _with_adamw(direction, learning_rate, weight_decay, adam_learning_rate, axes, roles)


def shampoo(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float | Array = 0.9,
    b2: float | Array = 0.95,
    refresh_every: int | Array = 10,
    root: RootMethod = "eigh",
    max_block: int = 1024,
    weight_decay: float | Array = 0.0,
    adam_learning_rate: optax.ScalarOrSchedule | None = None,
    axes: Axes = None,
    placement: Placement = "owners",
    roles: RoleOverrides | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Shampoo at the length of Adam's steps for the hidden matrices, AdamW for everything else.

    Beside the arguments of `muon`:

        learning_rate: On AdamW's scale.
        b1, b2: As for `scale_by_shampoo`, and for the Adam that gives the length.
        refresh_every, root: As for `scale_by_shampoo`; AlgoPerf was won with refresh_every=100.
        max_block: The longest side of a block; each is preconditioned and grafted alone. State for
            `(m, n)` in one block: `3 m n + 2 m^2 + 2 n^2`.
        adam_learning_rate: Of the AdamW part, by default `learning_rate`.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.shampoo(1e-3, refresh_every=100)

    References:
        Gupta et al., 2018, arXiv:1802.09568; Shi et al., 2023, arXiv:2309.06497.
    """
    rule = graft(
        scale_by_shampoo(b1, b2, refresh_every=refresh_every, root=root), scale_by_adam(b1, b2)
    )
    blocks = per_block(rule, max_block)
    direction = lambda axes: per_stack(blocks, axes=axes, placement=placement)
    return _with_adamw(direction, learning_rate, weight_decay, adam_learning_rate, axes, roles)


def asgo(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float | Array = 0.9,
    b2: float | Array = 0.95,
    refresh_every: int | Array = 10,
    weight_decay: float | Array = 0.0,
    adam_learning_rate: optax.ScalarOrSchedule | None = None,
    axes: Axes = None,
    placement: Placement = "owners",
    roles: RoleOverrides | None = None,
) -> optax.GradientTransformationExtraArgs:
    """One-sided Shampoo on the smaller side for the hidden matrices, AdamW for everything else.

    State for `(m, n)`: `m n + 2 min(m, n)^2`. Arguments are those of `shampoo`. Nothing is grafted
    or debiased: the first update has spectral norm `(1 - b1) / sqrt(1 - b2)` times the rate.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.asgo(0.01)

    References:
        An et al., ASGO, 2025, arXiv:2503.20762.
    """
    rule = scale_by_shampoo(b1, b2, memory="ema", refresh_every=refresh_every, sides="smaller")
    direction = lambda axes: per_stack(rule, axes=axes, placement=placement)
    return _with_adamw(direction, learning_rate, weight_decay, adam_learning_rate, axes, roles)


def mars_muon(
    learning_rate: optax.ScalarOrSchedule,
    *,
    gamma: float | Array = 0.025,
    momentum: float | Array = 0.95,
    method: Method | None = None,
    weight_decay: float | Array = 0.0,
    axes: Axes = None,
    placement: Placement = "owners",
    roles: RoleOverrides | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Muon on variance-reduced gradients for the hidden matrices, AdamW for everything else.

    Each corrected matrix is clipped to norm 1. State: two copies of the matrices. `learning_rate`
    is on AdamW's scale, as of `muon` with 'match_rms', and serves both. `gamma` is how much of the
    correction is used; the other arguments are those of `muon`.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.mars_muon(3e-3, weight_decay=0.1)

    References:
        Liu et al., MARS-M, 2025, arXiv:2510.21800.
    """

    def direction(axes: Axes) -> optax.GradientTransformation:
        return optax.chain(
            per_matrix(correct_by_mars(gamma, momentum), axes=axes, placement=placement),
            momentum_of(momentum, "ema"),
            orthogonalize_tree(method, postprocess=match_rms(), axes=axes, placement=placement),
        )

    return _with_adamw(direction, learning_rate, weight_decay, None, axes, roles)


def mars_adamw(
    learning_rate: optax.ScalarOrSchedule,
    *,
    gamma: float | Array = 0.025,
    b1: float | Array = 0.95,
    b2: float | Array = 0.99,
    weight_decay: float | Array = 0.0,
) -> optax.GradientTransformation:
    """AdamW on variance-reduced gradients, for all parameters; typically at 3e-3.

    Each corrected leaf is clipped to norm 1. State: three copies of the parameters.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.mars_adamw(3e-3, weight_decay=0.1)

    References:
        Yuan et al., MARS, 2024, arXiv:2411.10438.
    """
    corrected = optax.chain(correct_by_mars(gamma, b1), scale_by_adam(b1, b2, 1e-8))
    return _stepped(corrected, learning_rate, weight_decay)


def ademamix(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float | Array = 0.9,
    b2: float | Array = 0.999,
    b3: optax.ScalarOrSchedule = 0.9999,
    alpha: optax.ScalarOrSchedule = 5.0,
    weight_decay: float | Array = 0.0,
) -> optax.GradientTransformation:
    """AdamW with a second, slow mean, for all parameters; see `scale_by_ademamix`.

    State: three copies of the parameters.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.ademamix(1e-3, **gs.ademamix_warmup(10_000))

    References:
        Pagliardini et al., The AdEMAMix Optimizer, 2024, arXiv:2409.03137.
    """
    return _stepped(scale_by_ademamix(b1, b2, b3, alpha), learning_rate, weight_decay)


def _stepped(
    direction: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
    weight_decay: float | Array,
) -> optax.GradientTransformation:
    return optax.chain(
        direction, decay_weights(weight_decay), scale_by_learning_rate(learning_rate)
    )


def _with_adamw(
    direction: Callable[[Axes], optax.GradientTransformation],
    learning_rate: optax.ScalarOrSchedule,
    weight_decay: float | Array,
    adam_learning_rate: optax.ScalarOrSchedule | None,
    axes: Axes,
    roles: RoleOverrides | None,
) -> optax.GradientTransformationExtraArgs:
    """Step the hidden matrices along a direction, and everything else by AdamW at their rate."""
    adam = scale_by_adam(b1=0.9, b2=0.95, eps=1e-10)
    adam_rate = learning_rate if adam_learning_rate is None else adam_learning_rate
    return partition_by_role(
        lambda axes: _stepped(direction(axes), learning_rate, weight_decay),
        _stepped(adam, adam_rate, weight_decay),
        axes=axes,
        roles=roles,
    )


def _times(factor: float, rate: optax.ScalarOrSchedule) -> optax.ScalarOrSchedule:
    return (lambda count: factor * rate(count)) if callable(rate) else factor * rate
