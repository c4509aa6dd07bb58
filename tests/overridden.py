"""Small numbers of the target, so that small matrices meet every branch."""

import contextlib
import dataclasses
from collections.abc import Iterator

import gradsmith as gs
from gradsmith.xla.targets import current_target


@contextlib.contextmanager
def overridden(**numbers: int | float | bool) -> Iterator[None]:
    """Compile with some numbers of the target replaced."""
    with gs.target(dataclasses.replace(current_target(), **numbers)):
        yield
