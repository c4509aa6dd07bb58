"""Run checks on one subject in this process: order, needs, time limits, and a verdict for each."""

import contextlib
import io
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

from .bench import Bench, bench_of
from .check import Check
from .conditions import require
from .diagnosis import failure_from, unknown_failure
from .metrics import measure
from .reproducer import reproducer
from .subject import Subject
from .verdicts import OUT_OF_MEMORY, Advice, CheckFailure, NotApplicable, Result

TIME_LIMIT = 60.0
"""Seconds that one check may take before it is told inconclusive."""


class OutOfTime(BaseException):
    """Not an `Exception`, so that a subject which catches everything does not catch it."""


def run_checks(
    subject: Subject,
    checks: Iterable[Check],
    *,
    limit: float = TIME_LIMIT,
    started: Callable[[Check], None] = lambda check: None,
    finished: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Run `checks`, in their order, on `subject`.

    A result that the subject's bench already holds is taken from there, so a check that others
    need runs once.

    Args:
        subject: What is checked.
        checks: Which; what they need must stand before them.
        limit: Seconds for one check.
        started: Called before a check runs.
        finished: Called with each result.
    """
    bench = bench_of(subject)
    results = []
    for check in checks:
        if check.name not in bench.results:
            started(check)
            bench.results[check.name] = _run_one(check, bench, limit)
            finished(bench.results[check.name])
        results.append(bench.results[check.name])
    return results


def metrics_of(subject: Subject, limit: float = TIME_LIMIT) -> dict[str, float]:
    """Measure the subject, where its core runs and its state is sound; else nothing."""
    bench = bench_of(subject)
    needed = ("core_runs", "updates_like_params", "state_leaves_are_arrays")
    if not all(n in bench.results and bench.results[n].outcome == "passed" for n in needed):
        return {}
    try:
        with _quiet(), time_limit(limit):
            return measure(bench)
    except (Exception, OutOfTime):  # the checks tell what is wrong
        return {}


def _run_one(check: Check, bench: Bench, limit: float) -> Result:
    start = time.perf_counter()

    def result(outcome, reason: str = "", advice: Advice | None = None) -> Result:
        seconds = time.perf_counter() - start
        return Result(check.name, check.group, check.tier, outcome, seconds, reason, advice)

    expected = bench.subject.expected_failures.get(check.name)
    for need in check.needs:
        if bench.results[need].outcome not in ("passed", "skipped", "unexpected"):
            if expected is not None:
                return result("expected", f"{expected} ({need} did not pass)")
            return result("blocked", f"{need} did not pass")
    if check.tier == "trait" and check.name not in bench.subject.claims:
        return result("skipped", "the subject does not claim it")
    for trait in check.unless:
        if trait in bench.subject.traits:
            return result("skipped", f"the subject declares the trait {trait!r}")
    try:
        for condition in check.requires:
            require(condition, bench)
        with _quiet(), time_limit(limit):
            check.function(bench)
    except NotApplicable as reason:
        return result("skipped", str(reason))
    except OutOfTime:
        return result("inconclusive", f"took more than {limit:g} s")
    except (Exception, SystemExit) as error:
        if _is_out_of_memory(error):
            return result("inconclusive", OUT_OF_MEMORY)
        failure = (
            error if isinstance(error, CheckFailure) else _diagnose(error, bench, check, limit)
        )
        advice = complete(failure.advice, check, bench.subject)
        if expected is not None:
            return result("expected", expected, advice)
        return result("failed", "", advice)
    if expected is not None:
        return result(
            "unexpected",
            "it passes, and was expected to fail",
            Advice(
                f"to fail, as expected_failures says: {expected}",
                "it passes",
                change=f"take {check.name!r} off expected_failures",
            ),
        )
    return result("passed")


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _diagnose(error: BaseException, bench: Bench, check: Check, limit: float) -> CheckFailure:
    """Say what an exception means; finding out may run the subject again, so it is limited too."""
    try:
        with _quiet(), time_limit(limit):
            return failure_from(error, bench, check)
    except OutOfTime:
        return unknown_failure(error, bench, check)


def complete(advice: Advice, check: Check, subject: Subject) -> Advice:
    """Fill in from the check's declaration what the failure left open."""
    call = advice.reproduce or check.call
    reproduce = reproducer(call, subject) if call else ""
    return Advice(
        expected=advice.expected or check.headline,
        seen=advice.seen,
        reproduce=reproduce,
        cause=advice.cause or check.cause,
        change=advice.change or check.change,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What the subject prints and warns is no result of ours."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` when the body takes longer.

    Works where POSIX signals do, in the main thread and between two steps of the interpreter; the
    supervisor of the command line, which can end a process, covers the rest.
    """
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(signum: int, frame: FrameType | None) -> None:
        raise OutOfTime

    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, ring)
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if remaining:  # a timer of the caller's runs on; one that is overdue rings at once
            left = max(remaining - (time.monotonic() - started), 1e-6)
            signal.setitimer(signal.ITIMER_REAL, left, interval)
