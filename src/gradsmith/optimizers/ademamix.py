"""AdEMAMix: AdamW with a second, slow mean."""

import optax
from jax.typing import ArrayLike

from ..transforms.ademamix import scale_by_ademamix
from ..transforms.arguments import ScalarOrSchedule
from ..transforms.weight_decay import Mask
from .shared import no_vectors, stepped


def ademamix(
    learning_rate: ScalarOrSchedule,
    *,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    b3: ScalarOrSchedule = 0.9999,
    alpha: ScalarOrSchedule = 5.0,
    eps: ArrayLike = 1e-8,
    weight_decay: ScalarOrSchedule | None = None,
    weight_decay_mask: Mask = None,
) -> optax.GradientTransformation:
    """AdamW with a second, slow mean, for all parameters; see `scale_by_ademamix`.

    State: three copies of the parameters.

    Args:
        learning_rate: A number or a schedule, on AdamW's scale.
        b1: The part of the fast mean that survives a step.
        b2: The part of the mean square that survives a step.
        b3: The part of the slow mean that survives a step; a number or a schedule.
        alpha: The weight of the slow mean; a number or a schedule. `ademamix_warmup` makes both.
        eps: Added to the root of the mean square.
        weight_decay: Decoupled, times the learning rate; by default none.
        weight_decay_mask: What decays: a tree of bools, or a prefix of one, or a function of the
            parameters that returns it. By default all but vectors: no biases, norms and gains.

    Raises:
        ValueError: An argument is out of its range.

    Examples:
        >>> import gradsmith as gs
        >>> optimizer = gs.ademamix(1e-3, **gs.ademamix_warmup(10_000))

    References:
        Pagliardini et al., The AdEMAMix Optimizer, 2024, arXiv:2409.03137.
    """
    mask = no_vectors if weight_decay_mask is None else weight_decay_mask
    return stepped(scale_by_ademamix(b1, b2, b3, alpha, eps), learning_rate, weight_decay, mask)
