"""One process at a time in the folder of a race."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import RaceError


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file `path` as a lock; the system lets go of it when the process ends, however.

    Raises:
        RaceError: Another process holds it; says which one and since when.

    Examples:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder, locked(pathlib.Path(folder, "lock")):
        ...     pass
    """
    import fcntl  # not on Windows

    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RaceError(f"{path.parent} is {_holder(path)}") from None
        file.truncate(0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        json.dump({"process": os.getpid(), "host": socket.gethostname(), "since": since}, file)
        file.flush()
        yield


def _holder(path: Path) -> str:
    try:
        there = json.loads(path.read_text())
        who = f"process {there['process']} on {there['host']} since {there['since']}"
    except (ValueError, KeyError, OSError):  # it has only just begun
        who = "another process"
    return f"being raced by {who}: wait for it, stop it, or choose another folder"
