"""Where a race is computed: here, as one of several processes, or by a Ray cluster."""

from collections.abc import Mapping

from ..race import Executor, Worker
from ..race.cluster import Ray
from .loading import UsageError


def executor_of(worker: str | None, ray: str | None, environment: Mapping[str, str]) -> Executor:
    """The executor of `--worker` and `--ray`.

    A worker is `2/4`, or `slurm` for the place of this task in its array, which may start at any
    number and leave some out. It is never taken from the environment alone: an array may as well
    hold a race in each task, and none of them may wait for the others.

    Raises:
        UsageError: Both are given; or the worker is neither; or this is no task of a Slurm array.
        RaceError: There is no such worker, or no Ray.

    Examples:
        >>> array = {"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "4"}
        >>> array |= {"SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_STEP": "2"}
        >>> executor_of("slurm", None, array).worker
        3
    """
    if worker and ray:
        raise UsageError(
            "--worker shares a race by its folder, --ray by a cluster: give one of them"
        )
    if ray:
        return Ray(ray)
    if worker == "slurm":
        return _of_array(environment)
    if worker:
        return _of_text(worker)
    return Executor()


def _of_array(environment: Mapping[str, str]) -> Worker:
    found = [environment.get(f"SLURM_ARRAY_TASK_{part}") for part in ("ID", "COUNT", "MIN", "STEP")]
    if None in found:
        raise UsageError("--worker slurm: this is no task of a Slurm array; write --worker 2/4")
    number, count, least, step = (int(value or 0) for value in found)
    return Worker((number - least) // step + 1, count)


def _of_text(text: str) -> Worker:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise UsageError(f"--worker {text}: write which one of how many, such as 2/4, or slurm")
    return Worker(int(number), int(count))
