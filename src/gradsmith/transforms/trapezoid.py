"""Schedules that rise, stay and fall: of learning rates, momenta and whatever else takes one."""

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike


def trapezoid(
    peak: ArrayLike,
    steps: int,
    *,
    rise: int | float = 0,
    fall: int | float = 0,
    foot: ArrayLike = 0.0,
    end: ArrayLike = 0.0,
    power: int | float = 1.0,
) -> optax.Schedule:
    """Return a schedule that rises to its peak, stays there, and falls towards the last step.

    It goes from `foot` to `peak` in a line over the first `rise` steps. Over the last `fall` steps
    it is `end + (peak - end) left^power`, where `left` is the part of them that is to come.
    Behind the last step it stays at `end`.

    With a power of 1.2 its fall is the PowerCool of the modded-nanogpt records. With
    `foot` and `end` it warms a momentum up and cools it down: whatever takes a schedule takes
    this one, and `optax.inject_hyperparams` hands it to what takes a number.

    Args:
        peak: The value between rise and fall.
        steps: The number of steps from the first to the end of the fall.
        rise: How many of them it rises; 0 starts at the peak.
        fall: How many of them it falls; 0 stays at the peak to the end.
        foot: Where the rise starts.
        end: Where the fall ends.
        power: The form of the fall: 1 is a line; above it, the fall is steepest at its start.

    Raises:
        ValueError: There are no steps, a number of them is negative, or rise and fall together
            are longer than all of them; or the power is not positive.

    Examples:
        >>> import gradsmith as gs
        >>> rate = gs.trapezoid(0.02, 1000, rise=100, fall=500)
        >>> print(*(f"{rate(t):.3f}" for t in (0, 50, 100, 500, 750, 1000)))
        0.000 0.010 0.020 0.020 0.010 0.000
        >>> momentum = gs.trapezoid(0.95, 2900, rise=300, fall=200, foot=0.85, end=0.85)
        >>> optimizer = gs.muon(rate, momentum=momentum)

    References:
        modded-nanogpt, optimization track, records 1 to 46.
        https://github.com/KellerJordan/modded-nanogpt
    """
    if steps < 1:
        raise ValueError(f"trapezoid needs steps >= 1, got {steps}")
    if min(rise, fall) < 0 or rise + fall > steps:
        raise ValueError(
            f"trapezoid needs rise >= 0, fall >= 0 and rise + fall <= steps, got {rise}, {fall} "
            f"and {steps}"
        )
    if power <= 0:
        raise ValueError(f"trapezoid needs power > 0, got {power}")

    def schedule(count):
        real = jnp.result_type(float)
        step, top, low, last = (jnp.asarray(x).astype(real) for x in (count, peak, foot, end))
        rising = low + (top - low) * step / (rise or 1)
        left = jnp.clip((steps - step) / (fall or 1), 0.0, 1.0)
        falling = last + (top - last) * left**power if fall else jnp.broadcast_to(top, step.shape)
        return jnp.where(step < rise, rising, falling)

    return schedule
