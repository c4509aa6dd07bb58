"""`--join`: processes that compute each run of a race together, by `jax.distributed`."""

import re

import jax

from .loading import UsageError

SHUTDOWN_SECONDS = 60  # that a process which has ended waits for the others


def join(text: str) -> None:
    """Join the processes, before JAX looks for devices.

    Args:
        text: `auto` where JAX finds the others by itself, or the address of the first process and
            which one this is, `host:1234,2/4`.

    Raises:
        UsageError: It is neither, or the others are not found.
    """
    found = re.fullmatch(r"(\S+:\d+),(\d+)/(\d+)", text)
    address, number, count = (found[1], int(found[2]), int(found[3])) if found else (None, 0, 0)
    if text != "auto" and not 1 <= number <= count:
        raise UsageError(
            f"--join {text}: write the address of the first process and which one of how many this "
            "is, such as host:1234,2/4, or auto on Slurm, Open MPI, Kubernetes or Cloud TPUs"
        )
    try:
        jax.distributed.initialize(
            coordinator_address=address,
            num_processes=count if found else None,
            process_id=number - 1 if found else None,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        summary = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"--join {text}: JAX cannot join the processes: {summary[0]}") from error
