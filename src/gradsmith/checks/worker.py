"""A process that runs checks for another: `python -m gradsmith.checks.worker`.

Reads a pickled `Job` from standard input and writes one JSON object a line to what was its standard
output: `{"loaded": ...}` or `{"unusable": ...}`, then `{"started": name}` and `{"result": ...}` for
each check, at last `{"metrics": ...}`. What the subject prints goes to standard error.
"""

import dataclasses
import json
import os
import pickle
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from .memory import limited_memory


class Job(NamedTuple):
    """What a worker has to do.

    Args:
        make: Returns the `Subject`; runs in the worker, so that importing it can do no harm.
        checks: Names of the checks to run, in order.
        known: Results of earlier workers, as dictionaries: they decide what is blocked.
        limit: Seconds for one check.
        measure: Whether to measure the metrics at the end.
        config: JAX settings to take over.
    """

    make: Callable[[], Any]
    checks: tuple[str, ...]
    known: tuple[dict, ...]
    limit: float
    measure: bool
    config: dict[str, Any]


def main() -> None:
    """Do the job on standard input."""
    pipe = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # a subject may print below Python's sys.stdout, too

    worker = os.getpid()

    def tell(**event: Any) -> None:
        if os.getpid() != worker:  # the subject has forked, and this is not the one that was asked
            os._exit(0)
        print(json.dumps(event), file=pipe, flush=True)

    job: Job = pickle.load(sys.stdin.buffer)
    import jax

    for name, value in job.config.items():
        jax.config.update(name, value)

    from .bench import bench_of
    from .registry import all_checks
    from .runner import metrics_of, run_checks
    from .verdicts import Result

    try:
        subject = job.make()
    except (Exception, SystemExit) as error:
        tell(unusable=str(error) or type(error).__name__)
        return
    tell(loaded=subject.name)

    bench = bench_of(subject)
    bench.results.update({known["check"]: Result.from_dict(known) for known in job.known})
    run_checks(
        subject,
        [check for check in all_checks() if check.name in job.checks],
        limit=job.limit,
        started=lambda check: tell(started=check.name),
        finished=lambda result: tell(result=dataclasses.asdict(result)),
    )
    tell(metrics=metrics_of(subject, job.limit) if job.measure else {})


if __name__ == "__main__":
    with limited_memory():
        main()
    sys.stdout.flush()
    os._exit(0)  # a subject's threads or exit handlers cannot hold the worker up
