"""A folder belongs to one configuration, and its files are whole at any moment."""

import dataclasses
import json

import pytest
from race_helpers import parabola, race

from gradsmith.race import Race, RaceError
from gradsmith.race.folder import Folder, replace_bytes


@pytest.fixture
def pinned(tmp_path):
    Folder(tmp_path, race()).pin()
    return tmp_path


def test_the_same_race_opens_its_folder_again(pinned):
    Folder(pinned, race())


def test_a_folder_is_nobodys_until_it_is_pinned(tmp_path):
    Folder(tmp_path / "new", race())
    Folder(tmp_path / "new", race(seeds=5)).pin()
    with pytest.raises(RaceError, match="seeds: 5 there, 2 here"):
        Folder(tmp_path / "new", race())


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (race(seeds=3), "config.seeds: 2 there, 3 here"),
        (race(rates=(0.1,)), r"config.rates: \[0.01, 0.1, 1.0\] there, \[0.1\] here"),
        (race(steps=21), "config.task.steps: 20 there, 21 here"),
        (race("b"), "config.entries.b: None there, {} here"),
    ],
)
def test_another_race_is_refused_and_the_difference_named(pinned, other, difference):
    before = (pinned / "config.json").read_bytes()
    with pytest.raises(RaceError, match=difference):
        Folder(pinned, other)
    assert (pinned / "config.json").read_bytes() == before


def test_a_task_of_another_size_is_refused(pinned):
    task = dataclasses.replace(parabola(), origin={"depth": 4})
    with pytest.raises(RaceError, match=r"config\.task\.depth: None there, 4 here"):
        Folder(pinned, dataclasses.replace(race(), task=task))


def test_other_versions_are_refused(pinned):
    file = pinned / "config.json"
    there = json.loads(file.read_text())
    there["versions"]["jax"] = "0.0.1"
    file.write_text(json.dumps(there))
    with pytest.raises(RaceError, match=r"versions\.jax: '0.0.1' there"):
        Folder(pinned, race())


def test_the_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RaceError, match="not the folder of a race"):
        Folder(tmp_path, race())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_kill_before_the_first_file_is_done_does_no_harm(tmp_path):
    (tmp_path / ".config.json.draft").write_text('{"conf')
    Folder(tmp_path, race()).pin()
    Folder(tmp_path, race())


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RaceError, match=r"cannot write in .*file/race: Not a directory"):
        Folder(tmp_path / "file" / "race", race())


def test_a_configuration_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RaceError, match="not readable"):
        Folder(tmp_path, race())


def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "report.html"
    replace_bytes(file, b"old")

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        replace_bytes(file, b"new")
    assert file.read_bytes() == b"old"


def test_configuration_holds_no_infinity():
    asked = Race(parabola(bound=float("inf")), race().entries)
    from gradsmith.race.folder import configuration

    assert "Infinity" not in json.dumps(configuration(asked))
