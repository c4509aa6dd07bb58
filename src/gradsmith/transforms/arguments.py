"""What arguments are refused when a transformation is built; traced ones pass."""

from typing import Any, get_args


def check_fractions(owner: str, **values: Any) -> None:
    """Refuse a number outside `[0, 1)`: a decay of 1 would never forget and never learn."""
    for name, value in values.items():
        if isinstance(value, int | float) and not 0 <= value < 1:
            raise ValueError(f"{owner} needs 0 <= {name} < 1, got {value}")


def check_not_negative(owner: str, **values: Any) -> None:
    """Refuse a negative number."""
    for name, value in values.items():
        if isinstance(value, int | float) and value < 0:
            raise ValueError(f"{owner} needs {name} >= 0, got {value}")


def check_cadence(owner: str, refresh_every: Any) -> None:
    """Refuse a cadence of less than one step."""
    if isinstance(refresh_every, int | float) and (
        refresh_every < 1 or refresh_every != int(refresh_every)
    ):
        raise ValueError(
            f"{owner} needs refresh_every >= 1, a whole number of steps, got {refresh_every}; "
            f"1 is every step"
        )


def check_choice(what: str, value: Any, choices: Any) -> None:
    """Refuse a string that is not among those of a `Literal`."""
    if value not in get_args(choices):
        raise ValueError(f"no {what} is called {value!r}; there are {', '.join(get_args(choices))}")
