"""Two processes of four devices each, over localhost."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 300  # seconds


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return str(listener.getsockname()[1])


@pytest.mark.slow
def test_muon_over_two_processes_is_muon():
    program, port = Path(__file__).parent / "two_processes.py", free_port()
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as stack:
        processes = []
        for rank in ("0", "1"):
            command = [sys.executable, str(program), rank, port]
            process = subprocess.Popen(
                command, env=environment, stdout=pipe, stderr=pipe, text=True
            )
            stack.callback(stop, process)
            processes.append(process)
        for process in processes:
            out, err = process.communicate(timeout=LIMIT)
            assert process.returncode == 0, err[-3000:]
            assert out.endswith("equal\n")


def stop(process):
    """Leave nothing behind, whatever happened."""
    process.kill()
    process.communicate()
