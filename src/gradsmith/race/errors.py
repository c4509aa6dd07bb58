"""The one error of a race, and what a device without memory becomes."""

import contextlib
from collections.abc import Iterator

import jax


class RaceError(ValueError):
    """A race cannot be run as asked; the message says what, where, and what to do instead."""


@contextlib.contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Say for what the device has not enough memory, in place of the error of the compiler.

    Raises:
        RaceError: It has not.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise RaceError(
            f"the device has not enough memory for {what}: {str(error).splitlines()[0]}\n"
            "what is finished is kept; race on a device with more, on several (--mesh), with a "
            "smaller task, without that entry, or without looking inside it (--no-watch)"
        ) from error
