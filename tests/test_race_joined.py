"""Two processes that jax.distributed has joined hold the race of one, and survive each other."""

import dataclasses
import json
import os
import textwrap
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from test_race_mesh import BOTH, asked, muon, streamed
from test_two_processes import both

from gradsmith.cli.loading import UsageError
from gradsmith.cli.race_join import join
from gradsmith.race import Display, Entry, RaceError, Worker, run_race
from gradsmith.race.lock import locked

TESTS = Path(__file__).parent
FLAGS = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=4")


def noisy(rate):
    """Keep a key of random numbers, as no other optimizer here does."""

    def update(updates, key, params=None):
        noise = lambda x: -rate * (x + 0.01 * jax.random.normal(key, x.shape))
        return jax.tree.map(noise, updates), jax.random.fold_in(key, 1)

    return optax.GradientTransformation(lambda params: jax.random.key(0), update)


def races():
    """Return what both processes race, by name."""
    return {
        "drawn": asked(BOTH, (muon(BOTH),)),
        "streamed": asked(BOTH, (Entry("noisy", noisy),), streamed()),
    }


def raced(folder, points=0):
    """Run both processes to the end, or to the point at which the first one dies."""
    return both(TESTS / "two_racers.py", folder, points, flags=FLAGS)


def said(out, name):
    """Return what a process printed of something."""
    return next(line for line in out.splitlines() if line.startswith(name)).partition(" ")[2]


def untimed(records):
    return [{**record, "timing": None} for record in records]


def readings(folder):
    return {path.name: path.read_text() for path in folder.glob("drawn/readings*")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of an undisturbed race, and what each process said."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "held").mkdir()
    with locked(folder / "held"):
        ended = raced(folder)
    for code, _, err in ended:
        assert code == 0, err[-3000:]
    return folder, [out for _, out, _ in ended]


@pytest.mark.slow
def test_joined_processes_have_the_records_of_one_within_rounding(whole, tmp_path):
    folder, outs = whole
    for name, race in races().items():
        first, second = (json.loads(said(out, name)) for out in outs)
        assert first == second
        lines = (folder / name / "records.jsonl").read_text().splitlines()
        assert list(map(json.loads, lines)) == first
        alone = [dataclasses.asdict(r) for r in run_race(race, tmp_path / name, Display())]
        for one, two in zip(alone, first, strict=True):
            assert two["program"] == one["program"]
            assert two["versions"]["device"] == one["versions"]["device"] + " in 2 processes"
            for curve in ("training_loss", "validation_loss"):
                expected, found = (np.array(r["curve"][curve], float) for r in (one, two))
                np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(readings(folder)) == 2


@pytest.mark.slow
def test_when_the_first_dies_the_other_ends_and_the_same_call_ends_the_same(whole, tmp_path):
    folder, outs = whole
    # In the first run; and in the first one with batches of the host, if the first is gone on with.
    for points, name in ((7, "drawn"), (32, "streamed")):
        (first, *_), (second, _, err) = raced(tmp_path, points)
        assert first == 9
        assert second != 0
        assert "JAX distributed service detected fatal errors" in err
        assert list(tmp_path.glob(f"{name}/checkpoints/run-*/*"))
    for (code, out, err), undisturbed in zip(raced(tmp_path), outs, strict=True):
        assert code == 0, err[-3000:]
        for name in races():
            expected, found = (untimed(json.loads(said(o, name))) for o in (undisturbed, out))
            assert found == expected
    assert readings(tmp_path) == readings(folder)


@pytest.mark.slow
def test_joined_processes_are_refused_together(whole):
    folder, outs = whole
    for out in outs:
        assert said(out, "unlike").startswith("the processes that jax.distributed has joined race")
        assert "held is being raced by process" in said(out, "held")
    assert not (folder / "unlike").exists()


@pytest.mark.slow
def test_the_command_shows_and_writes_in_the_first_process_alone(tmp_path):
    program = tmp_path / "command.py"
    program.write_text(
        textwrap.dedent(
            """
            import sys
            sys.path.insert(0, sys.argv[3])
            rank, port, _, *given = sys.argv[1:]
            place = f"localhost:{port},{int(rank) + 1}/2"
            sys.argv = ["gradsmith", "race", *given, "--join", place]
            from gradsmith.cli import main
            main()
            """
        )
    )
    given = ["sgd", "--task", f"{TESTS}/test_race_mesh.py:perceptron", "--rates", "0.02"]
    given += ["--seeds", "1", "--mesh", "data=2,fsdp=4", "--out", tmp_path / "race"]
    (code, out, err), (second, *others) = both(program, TESTS, *given, flags=FLAGS)
    assert (code, second) == (0, 0), err[-3000:]
    assert "Race on perceptron" in out
    assert "wrote" in err
    assert (tmp_path / "race" / "report.html").exists()
    assert not any(word in text for text in others for word in ("Race", "wrote", "compiling"))


def test_workers_that_are_joined_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("gradsmith.race.run.joined", lambda: True)
    with pytest.raises(RaceError, match="workers or tasks of Ray share the runs: take one"):
        run_race(asked(BOTH), tmp_path / "race", Display(), executor=Worker(1, 2))
    assert not (tmp_path / "race").exists()


def test_the_option_becomes_what_jax_is_told(monkeypatch):
    told = []
    monkeypatch.setattr("jax.distributed.initialize", lambda **given: told.append(given))
    join("host:1234,2/4")
    join("auto")
    which = ("coordinator_address", "num_processes", "process_id")
    found = [tuple(given[name] for name in which) for given in told]
    assert found == [("host:1234", 4, 1), (None, None, None)]


@pytest.mark.parametrize("text", ["host,2/4", "host:1234", "host:1234,0/4", "host:1234,5/4", "on"])
def test_an_option_of_another_form_is_refused(text):
    with pytest.raises(UsageError, match=rf"--join {text}: write the address of the first process"):
        join(text)


def test_what_jax_says_is_passed_on(monkeypatch):
    def initialize(**more):
        raise ValueError("there is no cluster")

    monkeypatch.setattr("jax.distributed.initialize", initialize)
    with pytest.raises(UsageError, match="auto: JAX cannot join the processes: there is no clust"):
        join("auto")
