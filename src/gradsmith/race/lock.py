"""One process at a time in the folder of a race, or one as each worker."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from .errors import RaceError


class Holder(NamedTuple):
    """A process that races in a folder.

    Args:
        name: What it is, such as `worker 2`; empty if it races alone.
        process: Its number.
        host: The machine it runs on.
        since: When it began.
        doing: What it is at.
    """

    name: str
    process: int
    host: str
    since: str
    doing: str

    def __str__(self) -> str:
        name = f"{self.name}, " if self.name else ""
        return f"{name}process {self.process} on {self.host} since {self.since}"


@contextlib.contextmanager
def locked(folder: Path, worker: int | None = None) -> Iterator[Callable[[str], None]]:
    """Hold a folder alone, or as a worker beside others.

    The system lets go of it when the process ends, however. Gives a function that tells others
    what the process is at.

    Raises:
        RaceError: Another process holds the folder, or is the same worker; says which one and since
            when.

    Examples:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder, locked(pathlib.Path(folder)) as tell:
        ...     tell("muon")
        ...     [holder] = holders(pathlib.Path(folder))
        >>> holder.doing
        'muon'
    """
    import fcntl  # not on Windows

    if worker is None:
        with claimed(folder, "") as tell:
            yield tell
    else:
        with (folder / ".lock").open("a+") as file:
            _hold(file, fcntl.LOCK_SH, folder, "")
            with claimed(folder, f"worker {worker}") as tell:
                yield tell


@contextlib.contextmanager
def claimed(folder: Path, name: str) -> Iterator[Callable[[str], None]]:
    """Hold one part of a folder, that of a worker or of a run; see `locked`."""
    import fcntl

    with lock_file(folder, name).open("a+") as file:
        _hold(file, fcntl.LOCK_EX, folder, name)
        since = time.strftime("%Y-%m-%d %H:%M:%S")

        def tell(doing: str) -> None:
            own = Holder(name, os.getpid(), socket.gethostname(), since, doing)
            file.truncate(0)
            json.dump(own._asdict(), file)
            file.flush()

        tell("")
        yield tell


def holders(folder: Path) -> list[Holder]:
    """Who races in a folder now."""
    import fcntl

    found = []
    for path in sorted(folder.glob(".lock*")):
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found += _holder(path)
    return found


def lock_file(folder: Path, name: str) -> Path:
    """The file that is held by the process of that name."""
    return folder / "-".join([".lock", *name.split()])


def _hold(file: IO[str], kind: int, folder: Path, name: str) -> None:
    import fcntl

    others = []
    for _ in range(20):
        try:
            return fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            others = [other for other in holders(folder) if not name or other.name == name]
        if others:
            break
        time.sleep(0.05)  # somebody was only looking, or has only just begun
    who = "; ".join(map(str, others)) or "another process"
    raise RaceError(
        f"{folder} is being raced by {who}: wait for it, stop it, or choose another folder"
    )


def _holder(path: Path) -> list[Holder]:
    try:
        return [Holder(**json.loads(path.read_text()))]
    except (ValueError, TypeError):  # it is being written
        return []
