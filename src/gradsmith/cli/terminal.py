"""Where results go, and how a command ends that Ctrl-C stops."""

import sys

from rich.console import Console

INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended
WIDTH = 80  # of a table that does not go to a terminal


def console() -> Console:
    """Stdout, 80 columns wide where it is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)
