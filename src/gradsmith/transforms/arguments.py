"""What arguments are refused when a transformation is built.

A number may be traced, as `optax.inject_hyperparams` makes all of them; then nobody knows its value
yet, and it passes. What decides shapes or the program may not be traced.
"""

from typing import Any, get_args

import jax
import numpy as np
import optax
from jax.typing import ArrayLike

ScalarOrSchedule = ArrayLike | optax.Schedule
"""A number, or a function of the number of steps so far that returns one."""


def check_fractions(owner: str, **values: Any) -> None:
    """Refuse a number outside `[0, 1)`: a decay of 1 would never forget and never learn."""
    for name, value in values.items():
        if is_known(value) and not 0 <= value < 1:
            raise ValueError(f"{owner} needs 0 <= {name} < 1, got {value}")


def check_shares(owner: str, **values: Any) -> None:
    """Refuse a number outside `[0, 1]`."""
    for name, value in values.items():
        if is_known(value) and not 0 <= value <= 1:
            raise ValueError(f"{owner} needs 0 <= {name} <= 1, got {value}")


def check_not_negative(owner: str, **values: Any) -> None:
    """Refuse a negative number."""
    for name, value in values.items():
        if is_known(value) and value < 0:
            raise ValueError(f"{owner} needs {name} >= 0, got {value}")


def check_cadence(owner: str, **values: Any) -> None:
    """Refuse a cadence of less than one step."""
    for name, value in values.items():
        if is_known(value) and (value < 1 or value != int(value)):
            raise ValueError(
                f"{owner} needs {name} >= 1, a whole number of steps, got {value}; 1 is every step"
            )


def check_fixed(owner: str, **values: Any) -> None:
    """Refuse an array where the shape of the state, or the program, depends on the value."""
    for name, value in values.items():
        if isinstance(value, jax.Array):
            raise TypeError(
                f"{owner} needs the value of {name} when it is built, for the shapes of its state "
                f"or for its program, got an array: {value}. With optax.inject_hyperparams, which "
                f"makes arrays of all numbers and calls all functions, say "
                f"static_args=({name!r},)"
            )


def given_params(owner: str, params: Any) -> Any:
    """Return the parameters; refuse an update without them."""
    if params is None:
        raise ValueError(f"{owner} needs the parameters: call update(grads, state, params)")
    return params


def check_choice(what: str, value: Any, choices: Any) -> None:
    """Refuse a string that is not among those of a `Literal`."""
    if value not in get_args(choices):
        raise ValueError(f"no {what} is called {value!r}; there are {', '.join(get_args(choices))}")


def is_known(value: Any) -> bool:
    """Whether `value` is a number that is known when a transformation is built."""
    return isinstance(value, int | float | np.number)
