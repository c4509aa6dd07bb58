"""A number, or a schedule with the count that it is called with; under Optax's names."""

from typing import Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from .arguments import ScalarOrSchedule


def init_schedule(value: ScalarOrSchedule) -> Any:
    """Return what a number or a schedule keeps: nothing, or the number of steps so far."""
    if callable(value):
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))
    return optax.EmptyState()


def read_schedule(value: ScalarOrSchedule, state: Any) -> tuple[ArrayLike, Any]:
    """Return the number of this step, and the state for the next one."""
    if callable(value):
        count = jnp.asarray(optax.safe_increment(state.count))
        return value(state.count), optax.ScaleByScheduleState(count)
    return value, state
