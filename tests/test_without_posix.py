"""What Windows lacks is taken away: a check and a race still work, or say what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Python imports `sitecustomize` when it starts, so the workers of a check lack the names, too.
WITHOUT_POSIX = """
import asyncio  # takes fcntl where sys.platform is not Windows
import os, select, signal, subprocess, sys

for module in ("fcntl", "resource", "pty", "termios"):
    sys.modules[module] = None
for name in ("killpg", "fork", "forkpty", "setsid", "getpgid", "sched_getaffinity"):
    delattr(os, name)
for name in ("SIGALRM", "setitimer", "alarm"):
    delattr(signal, name)

def refused(*args):
    raise OSError("not a socket")

select.select = select.poll = refused
start = subprocess.Popen.__init__

def popen(self, *args, pass_fds=(), preexec_fn=None, **keywords):
    assert not pass_fds and preexec_fn is None, "not on Windows"
    start(self, *args, **keywords)

subprocess.Popen.__init__ = popen
"""
SLOW_STEP = """
import time
import optax

def waits(learning_rate):
    def update(updates, state, params=None):
        time.sleep(60)
        return updates, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
"""


@pytest.fixture
def gradsmith(tmp_path):
    """Run the command as on a system without POSIX, whose terminal knows few characters."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_POSIX)
    source = Path(__file__).parents[1] / "src"
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    env |= {"PYTHONPATH": f"{tmp_path}{os.pathsep}{source}", "PYTHONIOENCODING": "cp1252"}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-c", "from gradsmith.cli import main; main()", *arguments],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            encoding="cp1252",
            timeout=120,
        )

    return run


def test_a_check_runs(gradsmith):
    ended = gradsmith("check", "optax.sgd", "--only", "contract")
    assert ended.returncode == 0, ended.stderr
    assert "0 failed" in ended.stdout


def test_a_check_that_hangs_is_ended(gradsmith, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW_STEP)
    ended = gradsmith("check", "slow.py:waits", "--only", "core_runs", "--limit", "0.5")
    assert "took over 0.5 s" in ended.stdout, ended.stderr
    assert ended.returncode == 1


RACE = ("race", "optax.sgd", "--task", "tabular", "--task-arg", "steps=20")
ONCE = ("--rates", "0.1", "--seeds", "1")


@pytest.mark.slow
def test_a_race_runs(gradsmith):
    ended = gradsmith(*RACE, *ONCE)
    assert ended.returncode == 0, ended.stderr
    assert "Race on tabular" in ended.stdout
    again = gradsmith("race", "status", "runs")
    assert "Traceback" not in again.stderr


def test_workers_are_refused(gradsmith):
    ended = gradsmith(*RACE, "--worker", "1/2")
    assert ended.returncode == 2
    assert "leave out --worker" in ended.stderr
    assert "Traceback" not in ended.stderr
