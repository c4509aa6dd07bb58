"""One process at a time in the folder of a race, or one as each worker."""

import contextlib
import importlib.util
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from .errors import RaceError

LOCKS = importlib.util.find_spec("fcntl") is not None
"""Whether the system can lock a file; Windows cannot in this way."""


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
    what the process is at. Where files cannot be locked, nobody is kept away from a race of one
    process.

    Raises:
        RaceError: Another process holds the folder, or is the same worker; says which one and since
            when. Or files cannot be locked, and there are workers.

    Examples:
        >>> import tempfile, pathlib
        >>> with tempfile.TemporaryDirectory() as folder, locked(pathlib.Path(folder)) as tell:
        ...     tell("muon")
        ...     [holder] = holders(pathlib.Path(folder))
        >>> holder.doing
        'muon'
    """
    if worker is None:
        with claimed(folder, "") as tell:
            yield tell
    elif not LOCKS:
        raise RaceError(
            "workers keep out of each other's way by locks of files, which this system does not "
            "have: leave out --worker, or race in WSL or a container"
        )
    else:
        import fcntl

        with (folder / ".lock").open("a+", encoding="utf-8") as file:
            _hold(file, fcntl.LOCK_SH, folder, "")
            with claimed(folder, f"worker {worker}") as tell:
                yield tell


@contextlib.contextmanager
def claimed(folder: Path, name: str) -> Iterator[Callable[[str], None]]:
    """Hold one part of a folder, that of a worker or of a run; see `locked`."""
    if not LOCKS:
        yield lambda doing: None
        return
    import fcntl

    with lock_file(folder, name).open("a+", encoding="utf-8") as file:
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
    """Who races in a folder now; nobody is seen where files cannot be locked."""
    if not LOCKS:
        return []
    import fcntl

    found = []
    for path in sorted(folder.glob(".lock*")):
        with path.open(encoding="utf-8") as file:
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
        return [Holder(**json.loads(path.read_text(encoding="utf-8")))]
    except (ValueError, TypeError):  # it is being written
        return []
