"""`check_optimizer`: the whole kit on one optimizer, in one call."""

import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from .registry import require_declarable, select, with_needs
from .report import Report
from .runner import TIME_LIMIT, metrics_of, run_checks
from .subject import as_subject


class CheckReportError(AssertionError):
    """Checks failed; the message lists all of them. `report` has the whole."""

    def __init__(self, report: Report):
        super().__init__(f"\n{report}")
        self.report = report


def check_optimizer(
    optimizer: Any,
    *,
    tier: Literal["must", "all"] = "all",
    only: Iterable[str] = (),
    expected_failures: Mapping[str, str] | None = None,
    on_failure: Literal["raise", "return"] = "raise",
    limit: float = TIME_LIMIT,
    **declared: Any,
) -> Report:
    """Run the checks on anybody's optimizer and say what is wrong with it, and how to mend it.

    Costs some seconds for an elementwise optimizer: a dozen small compilations. Runs in this
    process, under this process's JAX settings.

    Args:
        optimizer: A factory, a transformation, or a `Subject`. With a factory more can be checked.
        tier: `all`, or `must` without the advisory checks, whose failures are only remarks.
        only: Names of checks, groups or phases to run, with what they need; default: all.
        expected_failures: `{check: reason}`; such a check may fail and must not pass.
        on_failure: `raise` once, listing everything, or `return` the report in any case.
        limit: Seconds for one check, after which it is inconclusive.
        **declared: Fields of `Subject`: `name`, `arguments`, `extra_args`, `traits` ...

    Returns:
        The report: results, counts, failures, JSON.

    Raises:
        CheckReportError: A check failed, or none ran.
        ValueError: A check or trait is not known.

    Examples:
        >>> import optax
        >>> check_optimizer(optax.sgd, only=["contract"]).counts["failed"]
        0
    """
    if expected_failures is not None:
        declared["expected_failures"] = expected_failures
    subject = as_subject(optimizer, **declared)
    require_declarable(subject)
    only = tuple(only)
    start = time.perf_counter()
    results = run_checks(subject, with_needs(select(tier, only)), limit=limit)
    seconds = time.perf_counter() - start
    metrics = {} if only else metrics_of(subject, limit)
    report = Report(subject.name, tuple(results), metrics, seconds)
    if on_failure == "raise" and not report.ok:
        raise CheckReportError(report)
    return report
