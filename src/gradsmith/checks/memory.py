"""A bound on memory: what allocates without end must not take the machine along."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

MEMORY = 2**33
"""Bytes that code of somebody else's may take."""


@contextlib.contextmanager
def limited_memory() -> Iterator[None]:
    """Let what takes more than `MEMORY` raise a `MemoryError`; where the system cannot, it decides.

    Counted are pages that can be written, so that threads and shared libraries cost little, and
    not those that the process has already.
    """
    try:
        import resource

        in_use = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    set_limits = [in_use + MEMORY, *(n for n in (soft, hard) if n != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(set_limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
