"""`kill -9` at awkward moments: the same command continues, to the same records."""

import dataclasses
import glob
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from gradsmith.race.raced import finished

PROGRAM = """
    import functools
    import sys
    from pathlib import Path

    import optax

    sys.path.insert(0, "{tests}")
    from race_helpers import parabola
    from gradsmith import watch
    from gradsmith.race import Entry, Executor, Protocol, Race, Worker, run_race

    entries = (Entry("sgd", optax.sgd), Entry("momentum", lambda lr: optax.sgd(lr, 0.9)))
    race = Race(parabola(noise=0.1, steps=15), entries, (0.01, 0.1), Protocol(seeds=1))
    executor = Worker(int(sys.argv[2]), {workers}) if sys.argv[2:] else Executor()
    watch = functools.partial(watch, readings=["sizes"])
    folder = Path(sys.argv[1])
    run_race(race, folder, checkpoint_seconds=0.0, executor=executor, watch=watch)
"""
WORKERS = 4


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    file = tmp_path_factory.mktemp("program") / "race.py"
    file.write_text(textwrap.dedent(PROGRAM).format(tests=Path(__file__).parent, workers=WORKERS))
    return file


@pytest.fixture(scope="module")
def uninterrupted(program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert start(program, folder).wait() == 0
    return outcome(folder)


def start(program, folder, *worker):
    command = [sys.executable, program, folder, *map(str, worker)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def kill_when(process, moment) -> bool:
    """Kill the process at the moment; False if it ended before that."""
    while process.poll() is None:
        if moment():
            os.kill(process.pid, signal.SIGKILL)
            return process.wait() == -signal.SIGKILL
        time.sleep(0.0005)
    return False


def after_changes(folder, count):
    """A moment: records or checkpoints have changed so many times since now."""
    seen = [files(folder)]

    def moment():
        if (now := files(folder)) != seen[-1]:
            seen.append(now)
        return len(seen) > count

    return moment


def files(folder):
    sizes = [(folder / name).stat().st_size for name in there(folder, "records*.jsonl")]
    return sizes, set(there(folder, "checkpoints/*/*"))


def there(folder, pattern):
    """Return what matches, while the race adds and removes: `Path.glob` raises if it does."""
    return glob.glob(pattern, root_dir=folder)


def outcome(folder):
    """All that has to be the same: records, and what was read inside the runs."""
    readings = [(folder / name).read_text() for name in sorted(there(folder, "readings*"))]
    return [dataclasses.replace(record, timing={}) for record in finished(folder)], readings


def saving(folder):
    return any(there(folder, "checkpoints/run-*/*tmp*"))


def later_run_saved(folder):
    return any(there(folder, "checkpoints/run-4/[1-9]*"))


def test_a_race_killed_while_it_saves_and_again_later_ends_the_same(
    program, tmp_path, uninterrupted
):
    assert kill_when(start(program, tmp_path), lambda: saving(tmp_path))
    assert kill_when(start(program, tmp_path), lambda: later_run_saved(tmp_path))
    assert 0 < len(finished(tmp_path)) < len(uninterrupted[0])
    assert start(program, tmp_path).wait() == 0
    assert outcome(tmp_path) == uninterrupted


@pytest.mark.slow
def test_a_race_killed_again_and_again_at_random_ends_the_same(program, tmp_path, uninterrupted):
    chance = random.Random(0)
    kills = 0
    process = start(program, tmp_path)
    while kill_when(process, after_changes(tmp_path, chance.randint(1, 60))):
        kills += 1
        process = start(program, tmp_path)
    assert process.returncode == 0
    assert kills > 1
    assert outcome(tmp_path) == uninterrupted


@pytest.mark.slow
def test_four_workers_killed_at_random_end_as_one_process(program, tmp_path, uninterrupted):
    chance = random.Random(0)
    workers = {number: start(program, tmp_path, number) for number in range(1, WORKERS + 1)}
    kills = 0
    for number in chance.choices(range(1, WORKERS + 1), k=4):
        if kill_when(workers[number], after_changes(tmp_path, chance.randint(1, 60))):
            workers[number] = start(program, tmp_path, number)
            kills += 1
    assert kills > 1
    assert [process.wait() for process in workers.values()] == [0] * WORKERS
    assert outcome(tmp_path) == uninterrupted
    assert len(there(tmp_path, "records-*.jsonl")) == WORKERS


@pytest.mark.slow
def test_the_command_itself_survives_a_kill_on_shakespeare(tmp_path):
    def command(folder):
        arguments = [
            "race",
            "muon",
            "adamw",
            "--rates",
            "0.025",
            "--seeds",
            "1",
            "--out",
            str(folder),
        ]
        sizes = ["depth=2", "width=32", "batch=4", "steps=120", "validation_windows=16"]
        for size in sizes:
            arguments += ["--task-arg", size]
        program = f"import sys; sys.argv[1:] = {arguments}; from gradsmith.cli import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    assert command(tmp_path / "whole").wait() == 0
    killed = tmp_path / "killed"
    assert kill_when(command(killed), lambda: (killed / "records.jsonl").exists())
    assert command(killed).wait() == 0
    assert outcome(killed) == outcome(tmp_path / "whole")
    assert (killed / "report.html").exists()
