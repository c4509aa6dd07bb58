"""Where results go, and how a command ends that Ctrl-C stops."""

import sys
from pathlib import Path

from rich.console import Console

from ..race.folder import replace_bytes
from .loading import UsageError

INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended
WIDTH = 80  # of a table that does not go to a terminal


def console() -> Console:
    """Stdout, 80 columns wide where it is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def write_page(path: Path, page: str) -> None:
    """Write a page, and say so on stderr.

    Raises:
        UsageError: It cannot be written.
    """
    try:
        replace_bytes(path, page.encode())
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    print("wrote", path, file=sys.stderr)
