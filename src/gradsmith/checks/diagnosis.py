"""From an exception that a subject raised to its usual cause and the edit that mends it."""

from .bench import Bench
from .causes import RULES
from .check import Check
from .places import Place, find_place
from .verdicts import CheckFailure


def failure_from(error: BaseException, bench: Bench, check: Check) -> CheckFailure:
    """Say what an exception means; an unknown one is told as it is, with its place."""
    place = find_place(error)
    for rule in RULES:
        told = rule(error, place, bench)
        if told is not None:
            cause, change = told
            return CheckFailure(_seen(error, place), cause=cause, change=change)
    return unknown_failure(error, bench, check)


def unknown_failure(error: BaseException, bench: Bench, check: Check) -> CheckFailure:
    """An exception in its own words; what the check usually finds is told as no more than that.

    Not before the core runs: until then the advice of the check may be about another fault.
    """
    place, name = find_place(error), type(error).__name__
    core = bench.results.get("core_runs")
    if core is not None and core.outcome == "passed":
        cause = f"{name} was raised, see above. What is usually found here: {check.cause}"
        return CheckFailure(_seen(error, place), cause=cause, change=check.change)
    return CheckFailure(
        _seen(error, place),
        cause=f"{name} was raised; what it says is above",
        change=f"mend {place.file}:{place.line}" if place else "do what the message asks for",
    )


def _seen(error: BaseException, place: Place | None) -> str:
    seen = f"{type(error).__name__}: {str(error).strip()}"[:600]
    return seen if place is None else f"{seen}\nat {place}"
