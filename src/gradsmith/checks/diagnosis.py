"""From an exception that a subject raised to its usual cause and the edit that mends it."""

from .bench import Bench
from .causes import RULES
from .places import find_place
from .verdicts import CheckFailure


def failure_from(error: BaseException, bench: Bench) -> CheckFailure:
    """Say what an exception means; an unknown one is told as it is, with its place."""
    place = find_place(error)
    message = str(error).strip().splitlines()
    seen = f"{type(error).__name__}: {message[0] if message else ''}"[:600]
    if place is not None:
        seen += f"\nat {place}"
    for rule in RULES:
        told = rule(error, place, bench)
        if told is not None:
            cause, change = told
            return CheckFailure(seen, cause=cause, change=change)
    return CheckFailure(seen, cause="the subject raised; its message is above")
