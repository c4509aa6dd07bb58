"""The checks as pytest tests: one named, selectable test for each subject and check."""

import functools
import unittest
from collections.abc import Callable, Iterable
from typing import Any, Literal

from .check import Check
from .registry import require_declarable, select, with_needs
from .runner import run_checks
from .subject import Subject, as_subject
from .verdicts import CheckFailure


def parametrize(
    *subjects: Any, tier: Literal["must", "all"] = "must", only: Iterable[str] = ()
) -> Callable:
    """Parametrize a test over `subject` and `check`; ids read `muon-donate`.

    Expected failures of a subject become strict xfails; a check that is blocked, skipped or
    inconclusive becomes a skip with its reason. A check that others need runs once a subject.

    Args:
        *subjects: Subjects, factories or transformations, or one list of them.
        tier: `must` and what a subject claims, or `all` with the advisory checks.
        only: Names of checks, groups or phases; default: all of them.

    Raises:
        ValueError: A check is not known, two subjects share a name, or nothing is left to run.

    Examples:
        >>> import optax
        >>> @parametrize(Subject("adam", optax.adam), only=["contract"])
        ... def test_conforms(subject, check):
        ...     check(subject)
    """
    import pytest

    given = subjects[0] if len(subjects) == 1 and isinstance(subjects[0], list) else subjects
    entries = [as_subject(subject) for subject in given]
    names = [subject.name for subject in entries]
    if len(set(names)) < len(names):
        raise ValueError(f"subjects need different names, got {', '.join(sorted(names))}")
    checks = select(tier, only)
    if not entries or not checks:
        raise ValueError("nothing to parametrize over: give a subject, and checks that exist")

    def case(subject: Subject, check: Check):
        return pytest.param(
            subject,
            functools.partial(assert_passes, check),
            id=f"{subject.name}-{check.name}",
            marks=expectations(subject, check),
        )

    for subject in entries:
        require_declarable(subject)
    return pytest.mark.parametrize(
        ("subject", "check"),
        [
            case(subject, check)
            for subject in entries
            for check in checks
            if tier == "all" or check.tier != "trait" or check.name in {*subject.claims, *only}
        ],
    )


def expectations(subject: Subject, check: Check) -> tuple[Any, ...]:
    """The marks of a test: a strict xfail, where the subject declares the failure."""
    import pytest

    reason = subject.expected_failures.get(check.name)
    if reason is None:
        return ()
    return (pytest.mark.xfail(reason=reason, raises=CheckFailure, strict=True),)


def assert_passes(check: Check, subject: object) -> None:
    """Run one check and what it needs; raise what pytest shows.

    Raises:
        CheckFailure: The property does not hold.
        unittest.SkipTest: It was skipped, blocked or inconclusive; pytest reports a skip.
    """
    result = run_checks(as_subject(subject), with_needs([check]))[-1]
    if result.outcome in ("failed", "expected"):
        assert result.advice is not None
        advice = result.advice
        raise CheckFailure(
            advice.seen, advice.expected, advice.reproduce, advice.cause, advice.change
        )
    if result.outcome not in ("passed", "unexpected"):  # pytest's strict xfail tells the latter
        raise unittest.SkipTest(f"{result.outcome}: {result.reason}")
