"""The schedule of a race, the same for everyone."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

WARM_UP = 0.1  # of the steps


def schedule(step: Int[Array, ""], steps: int) -> Float[Array, ""]:
    """Linear warm-up over a tenth of the steps, then linear to zero.

    This is the share of the learning rate that step `step` (from 0) of `steps` gets.

    Rises linearly over the first tenth of the steps, then falls linearly to zero, which is
    where one more step would be (Defazio et al. 2023, arXiv:2310.07831, find linear decay the
    best of the common schedules; Bergsma et al. 2025, arXiv:2502.15938, that it should go to zero).

    Examples:
        >>> print([round(float(schedule(jnp.int32(i), 10)), 2) for i in range(10)])
        [1.0, 1.0, 0.89, 0.78, 0.67, 0.56, 0.44, 0.33, 0.22, 0.11]
    """
    warm_up = max(1, round(WARM_UP * steps))
    t = step.astype(jnp.float32)
    return jnp.minimum((t + 1) / warm_up, (steps - t) / max(1, steps - warm_up))
