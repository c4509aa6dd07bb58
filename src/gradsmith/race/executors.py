"""Where the runs of a race are computed: the seam, and the two executors that need nothing else."""

from collections.abc import Iterator

from .errors import RaceError
from .protocol import Job
from .records import Record
from .runner import Runner


class Executor:
    """In this process, one run after the other.

    Another executor says which jobs are its own, or how they become records. It may be asked for
    all that is left at any time, and yields each record once the run is over.
    """

    worker: int | None = None  # which of the processes that share the race; None: there are none

    def share(self, jobs: list[Job]) -> list[Job]:
        """Those of the jobs that this process has to do."""
        return jobs

    def records(self, jobs: list[Job], runner: Runner) -> Iterator[tuple[Job, Record]]:
        """Do the jobs, in any order."""
        runner.compile(jobs)
        for job in jobs:
            yield job, runner(job)


class Worker(Executor):
    """One of several processes that share a race by its folder alone.

    Each does every `count`-th run and writes a file of its own; together the files are those of one
    process, `timing` apart. No process starts another, and none is asked anything: a worker that
    died is started again, and goes on.

    Args:
        worker: Which one, from 1.
        count: How many there are.

    Raises:
        RaceError: There is no such worker.

    Examples:
        >>> from gradsmith.race.protocol import Run
        >>> jobs = [Job(number, Run("adamw", number, -1), {}) for number in range(5)]
        >>> [job.number for job in Worker(2, 3).share(jobs)]
        [1, 4]
    """

    def __init__(self, worker: int, count: int):
        if not 1 <= worker <= count:
            raise RaceError(
                f"there is no worker {worker}/{count}: they are 1/{count} to {count}/{count}"
            )
        self.worker, self._first, self._count = worker, worker - 1, count

    def share(self, jobs: list[Job]) -> list[Job]:
        """Every `count`-th run of the race."""
        return [job for job in jobs if job.number % self._count == self._first]
