"""Numbers of an option of `gradsmith race`, with commas or blanks between them."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from .loading import UsageError

Number = TypeVar("Number", int, float)


def parse_numbers(
    option: str, texts: Sequence[str], kind: Callable[[str], Number], example: str
) -> tuple[Number, ...]:
    """Return the numbers that were typed after an option.

    Raises:
        UsageError: One is no number of that kind; the message has the example.

    Examples:
        >>> parse_numbers("widths", ["64,128", "256"], int, "64,128,256")
        (64, 128, 256)
    """
    parts = [part for text in texts for part in text.split(",")]
    try:
        return tuple(map(kind, parts))
    except ValueError as error:
        typed = " ".join(texts)
        raise UsageError(f"--{option} takes numbers, such as {example}; got {typed}") from error
