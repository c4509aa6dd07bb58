"""NorMuon: Muon, whose neurons get equal parts of every update over time."""

from typing import Unpack

import optax
from jax.typing import ArrayLike, DTypeLike

from ..layout.declare import Axes
from ..lift.per_stack import per_stack
from ..matrix.polar.plan import Method
from ..sites.placement import Placement
from ..transforms.arguments import ScalarOrSchedule
from ..transforms.momentum import momentum as momentum_of
from ..transforms.neuron_rms import NeuronAxis, scale_by_neuron_rms
from ..transforms.orthogonalize import orthogonalize
from ..transforms.shape_scale import scale_by_aspect_ratio
from ..xla.arithmetic import Precision
from .muon import ADAM_SHARE
from .shared import Shared, by_role, takes_shared


@takes_shared
def normuon(
    learning_rate: ScalarOrSchedule,
    *,
    momentum: ScalarOrSchedule = 0.95,
    momentum_dtype: DTypeLike | None = None,
    neuron_decay: ArrayLike = 0.95,
    neuron_axis: NeuronAxis = "out",
    method: Method | None = None,
    precision: Precision | None = None,
    placement: Placement = "owners",
    **shared: Unpack[Shared],
) -> optax.GradientTransformationExtraArgs:
    """NorMuon for the hidden matrices, AdamW for everything else.

    Muon, whose neurons get equal parts of every update over time. State and cost are those of
    `muon`, and one number a neuron.

    Args:
        learning_rate: That of the matrices, a number or a schedule; typically 0.02. It is the
            spectral norm of an update where layers narrow. AdamW's own is 0.3 times that.
        momentum: The part of the momentum that survives a step, a number or a schedule; Keller
            Jordan's kind.
        momentum_dtype: What the momentum is kept in; by default the dtype of the parameters, or
            float32 where that is narrower.
        neuron_decay: The part of the neurons' mean square that survives a step.
        neuron_axis: What counts as a neuron: 'out', 'in' or 'long'; see `scale_by_neuron_rms`.
        method: How to orthogonalize; see `gradsmith.matrix.orthogonalize`.
        precision: In which arithmetic; see there.
        placement: Where matrices are computed on a mesh; see `per_stack`.
        **shared: See `Shared`.

    Raises:
        ValueError: An argument is out of its range; at `init`, where a leaf is ambiguous.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.normuon(0.02, weight_decay=0.01)

    References:
        Li et al., NorMuon, 2025, arXiv:2510.05491.
    """
    rule = optax.chain(scale_by_neuron_rms(neuron_decay, axis=neuron_axis), scale_by_aspect_ratio())

    def direction(axes: Axes) -> optax.GradientTransformation:
        return optax.chain(
            momentum_of(momentum, dtype=momentum_dtype),
            orthogonalize(method, precision=precision, axes=axes, placement=placement),
            per_stack(rule, axes=axes, placement=placement),
        )

    return by_role(direction, learning_rate, ADAM_SHARE, **shared)
