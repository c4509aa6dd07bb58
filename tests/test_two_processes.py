"""Two processes of four devices each, over localhost."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 300  # seconds


def both(program, *arguments, flags=""):
    """Run a program as two processes, which get a port of their own and their rank, from 0.

    Returns:
        Exit code, output and errors of each.
    """
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        port = str(listener.getsockname()[1])
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as stack:
        processes = []
        for rank in ("0", "1"):
            process = subprocess.Popen(
                [sys.executable, str(program), rank, port, *map(str, arguments)],
                env={**os.environ, "XLA_FLAGS": flags},
                stdout=pipe,
                stderr=pipe,
                text=True,
            )
            stack.callback(stop, process)
            processes.append(process)
        told = [process.communicate(timeout=LIMIT) for process in processes]
        return [(p.returncode, *texts) for p, texts in zip(processes, told, strict=True)]


@pytest.mark.slow
def test_muon_over_two_processes_is_muon():
    for code, out, err in both(Path(__file__).parent / "two_processes.py"):
        assert code == 0, err[-3000:]
        assert out.endswith("equal\n")


def stop(process):
    """Leave nothing behind, whatever happened."""
    process.kill()
    process.communicate()
