"""One process at a time races in a folder, and the next one hears who it is."""

import os
import subprocess
import sys
import textwrap

import pytest
from race_helpers import race

from gradsmith.race import Display, RaceError, run_race
from gradsmith.race.lock import locked

HOLDER = """
    import sys
    from pathlib import Path
    from gradsmith.race.lock import locked

    with locked(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_process_says_who_races_and_since_when(tmp_path, holder):
    with pytest.raises(RaceError) as caught:
        run_race(race(), tmp_path, Display())
    assert f"{tmp_path} is being raced by process {holder.pid} on " in str(caught.value)
    assert " since 2" in str(caught.value)
    assert not (tmp_path / "config.json").exists()


def test_a_killed_process_holds_nothing(tmp_path, holder):
    holder.kill()
    holder.wait()
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()
