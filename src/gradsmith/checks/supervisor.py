"""Run checks in processes of their own, and go on when a subject hangs or ends its process."""

import dataclasses
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import jax

from .check import Check
from .report import Report
from .runner import TIME_LIMIT
from .subject import Subject
from .verdicts import OUT_OF_MEMORY, Advice, Result
from .worker import Job

GRACE = 5.0
"""Seconds that a worker gets beyond the limit, to tell by itself that time ran out."""

STARTUP = 60.0
"""Seconds that a worker gets to import JAX and the subject, however short the limit is."""

_OUT_OF_MEMORY = ("SIGKILL", "bad_alloc")
"""How the system ends a process that wants more than there is, and how one written in C++ ends."""

_CONFIG = ("jax_numpy_dtype_promotion", "jax_numpy_rank_promotion", "jax_enable_x64")


class SubjectUnusable(Exception):  # noqa: N818
    """The subject cannot be made at all; the message says why."""


def supervise(
    make: Callable[[], Subject],
    checks: Iterable[Check],
    *,
    limit: float = TIME_LIMIT,
    started: Callable[[Check], None] = lambda check: None,
    finished: Callable[[Result], None] = lambda result: None,
    known: Iterable[Result] = (),
) -> Report:
    """Run `checks` in a worker process.

    Costs two seconds for the process, the import of JAX. A worker that hangs is ended and its
    check is inconclusive; one that dies fails its check; both are replaced for what remains.

    Args:
        make: Returns the subject; pickled, so a partial of an importable function.
        checks: Which, with what they need.
        limit: Seconds for one check.
        started: Called before a check runs.
        finished: Called with each result.
        known: Results that need not be found again.

    Raises:
        SubjectUnusable: `make` raised, hung or ended its process.
    """
    start = time.perf_counter()
    by_name = {check.name: check for check in checks}
    results: dict[str, Result] = {result.check: result for result in known}
    metrics: dict[str, float] = {}
    name = ""

    def record(result: Result) -> None:
        results[result.check] = result
        finished(result)

    while remaining := tuple(check for check in by_name if check not in results):
        running: str | None = None
        loaded = False
        job = Job(
            make,
            remaining,
            tuple(dataclasses.asdict(result) for result in results.values()),
            limit,
            any(check.phase == "concrete" for check in by_name.values()),
            {key: getattr(jax.config, key) for key in _CONFIG},
        )
        try:
            for event in _events(job):
                if "unusable" in event:
                    raise SubjectUnusable(event["unusable"])
                if "loaded" in event:
                    name, loaded = event["loaded"], True
                elif "started" in event:
                    running = str(event["started"])
                    started(by_name[running])
                elif "result" in event:
                    running = None
                    record(Result.from_dict(event["result"]))
                elif "metrics" in event:
                    metrics |= event["metrics"]
        except _WorkerGone as gone:
            if not loaded:
                raise SubjectUnusable(f"importing it {gone}") from None
            left = [check for check in remaining if check not in results]
            if left:  # between two checks it died on its way to the next
                record(_verdict_on(gone, by_name[running or left[0]], limit))
    return Report(name, tuple(results.values()), metrics, time.perf_counter() - start)


class _WorkerGone(Exception):  # noqa: N818
    """The worker ended early or was ended; the message says how."""

    def __init__(self, how: str, hung: bool):
        super().__init__(how)
        self.hung = hung
        self.for_memory = any(sign in how for sign in _OUT_OF_MEMORY)


def _verdict_on(gone: _WorkerGone, check: Check, limit: float) -> Result:
    if gone.hung or gone.for_memory:
        reason = f"took over {limit:g} s" if gone.hung else OUT_OF_MEMORY
        return Result(check.name, check.group, check.tier, "inconclusive", limit, reason)
    advice = Advice(
        check.headline,
        f"the process {gone} while this check ran",
        cause="a call of os._exit or exit, or a crash in native code",
        change="run the call under `reproduce with` alone, under `python -X faulthandler`",
    )
    return Result(check.name, check.group, check.tier, "failed", 0.0, "", advice)


def _events(job: Job) -> Iterator[dict[str, Any]]:
    """Start a worker and yield what it tells; raise `_WorkerGone` when it does not finish."""
    with tempfile.TemporaryFile() as noise:  # what the subject and the libraries say
        worker = subprocess.Popen(
            [sys.executable, "-m", "gradsmith.checks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=noise,
            start_new_session=True,  # so that what a subject starts is ended with it
        )
        try:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write(pickle.dumps(job))
            worker.stdin.close()
            finished = False
            for line in _lines(worker.stdout, max(STARTUP, job.limit), job.limit + GRACE):
                event = json.loads(line)
                finished = finished or "metrics" in event or "unusable" in event
                yield event
            if not finished:
                raise _WorkerGone(_how_it_ended(worker.wait()) + _last_words(noise), hung=False)
        finally:
            if worker.poll() is None:
                _end(worker)
            worker.wait()


def _end(worker: subprocess.Popen) -> None:
    """End a worker, and what it has started, where the system has groups of processes."""
    if hasattr(os, "killpg"):
        os.killpg(worker.pid, signal.SIGKILL)
    else:
        worker.kill()


def _lines(pipe: IO[bytes], startup: float, patience: float) -> Iterator[bytes]:
    """The lines that come; raise `_WorkerGone` when none comes for so many seconds.

    Args:
        pipe: Where they come from; closed at its end.
        startup: How long the first one may take.
        patience: How long each other one may take.
    """
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def read() -> None:  # in a thread: not every system can wait for a pipe and a time at once
        with pipe:
            for line in pipe:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    wait = startup
    while True:
        try:
            line = lines.get(timeout=wait)
        except queue.Empty:
            raise _WorkerGone(f"took over {wait:g} s", hung=True) from None
        if line is None:
            return
        yield line
        wait = patience


def _last_words(noise: IO[bytes]) -> str:
    noise.seek(0)
    lines = noise.read().decode(errors="replace").strip().splitlines()
    return f" ({lines[-1][:200]})" if lines else ""


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
