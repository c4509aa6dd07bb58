"""A race that runs elsewhere is followed by its folder, to its end."""

import io
import json

import pytest
from race_folders import made, write
from rich.console import Console

from gradsmith.race import Bars, Display, Lines, RaceError
from gradsmith.race.following import follow
from gradsmith.race.lock import locked
from gradsmith.race.records import append_record


class Heard(Display):
    """Writes down what it hears."""

    def __init__(self):
        self.said = []

    def begin(self, race, records):
        self.said.append(f"begin with {len(records)}")

    def finish(self, record):
        self.said.append(f"{record.entry} {record.seed}")

    def elsewhere(self, doing):
        self.said += doing

    def remark(self, text):
        self.said.append(f"remark: {text}")


def steps(*functions):
    """A wait that does these things one after the other, and fails when there are no more."""
    left = list(functions)
    return lambda seconds: left.pop(0)()


@pytest.fixture
def race():
    return made(("first", "second"), seeds=2)


def test_every_record_is_told_once_and_the_last_one_ends_it(tmp_path, race):
    asked, records = race
    folder = write(tmp_path / "race", asked, records[:-3])
    add = lambda record, worker: append_record(folder / f"records{worker}.jsonl", record)
    heard = Heard()
    with locked(folder, 1) as tell, locked(folder, 2) as other:
        tell("first, rate 0.02, seed 1")

        def more():
            add(records[-3], "-1")
            add(records[-2], "-2")
            tell("second, rate 0.02, seed 1")
            other("waiting for 1 runs of other workers")

        def last():
            add(records[-1], "-1")
            tell("")

        told, left = follow(folder, heard, steps(more, lambda: None, last))
    assert left == 0
    assert len(told.records) == len(records)
    assert heard.said == [
        f"begin with {len(records) - 3}",
        "first, rate 0.02, seed 1",
        "second 0",
        "first 1",
        "second, rate 0.02, seed 1",
        "waiting for 1 runs of other workers",
        "second, rate 0.02, seed 1",
        "waiting for 1 runs of other workers",
        "second 1",
        "waiting for 1 runs of other workers",
    ]


def test_it_ends_when_nobody_races_there(tmp_path, race):
    asked, records = race
    folder = write(tmp_path / "race", asked, records[:-1])
    _, left = follow(folder, Heard(), steps())
    assert left == 1


def test_a_race_that_is_being_compiled_is_waited_for(tmp_path, race):
    heard, folder = Heard(), tmp_path / "race"
    folder.mkdir()
    with locked(folder) as tell:
        tell("compiling first")

        def begin():
            write(folder, race[0], [])
            (folder / "records.jsonl").unlink()

        def end():
            write(folder, *race)

        follow(folder, heard, steps(lambda: None, begin, end))
    assert heard.said[:3] == ["remark: compiling first", "begin with 0", "compiling first"]


def test_what_is_no_race_is_not_waited_for(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(RaceError, match=r"so it is not the folder|there is no folder"):
            follow(folder, Heard(), steps())


def test_nothing_is_written(tmp_path, race):
    folder = write(tmp_path / "race", *race)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    follow(folder, Heard(), steps())
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_terminal_shows_what_each_entry_is_at(race):
    bars = Bars(Console(file=io.StringIO(), force_terminal=True, width=80))
    bars.begin(race[0], race[1][:-1])
    looks = []
    for doing in (
        ["first, rate 0.02, tuning seed 1", "first, rate 0.2, tuning seed 1", "compiling second"],
        ["waiting for 2 runs of other workers"],
    ):
        bars.elsewhere(doing)
        plain = Console(width=80, color_system=None)
        with plain.capture() as capture:
            plain.print(bars._live.get_renderable())
        looks.append(" ".join(capture.get().split()))
    assert "rate 0.02, tuning seed 1; rate 0.2, tuning seed 1 second" in looks[0]
    assert "compiling 9 of at most 10 runs" in looks[0]
    assert looks[1].count("waiting") == 2


def test_a_file_sees_the_lines_of_the_race_itself(tmp_path, race):
    asked, records = race
    folder, file = write(tmp_path / "race", asked, records[:-1]), io.StringIO()
    with locked(folder):
        last = lambda: append_record(folder / "records.jsonl", records[-1])
        follow(folder, Lines(Console(file=file, force_terminal=False)), steps(last))
    begun, run, progress = file.getvalue().splitlines()
    assert begun == f"going on after {len(records) - 1} finished runs"
    assert run.startswith("second, rate 0.02, seed 1: validation loss 2.")
    assert f"{len(records)} of at most {len(records)} runs" in progress
    assert all(letter.isprintable() or letter == "\n" for letter in file.getvalue())


def test_damage_is_told(tmp_path, race):
    folder = write(tmp_path / "race", *race)
    (folder / "config.json").write_text(json.dumps({"config": {}, "programs": {}, "versions": {}}))
    with pytest.raises(RaceError, match="does not tell of these records"):
        follow(folder, Heard(), steps())
