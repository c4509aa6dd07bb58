"""A folder belongs to one configuration, and its files are whole at any moment."""

import dataclasses
import json

import pytest
from race_helpers import parabola, race, record

from gradsmith.race import Race, RaceError
from gradsmith.race.folder import Folder, configuration, replace_bytes
from gradsmith.race.records import append_record

PROGRAMS = {"task": "1", "entry sgd": "0"}


def folder(path, asked, programs=PROGRAMS):
    return Folder(path, configuration(asked), programs)


@pytest.fixture
def pinned(tmp_path):
    folder(tmp_path, race()).pin()
    return tmp_path


def own_record(path, asked, **changes):
    """Return a record as this race writes it in this folder."""
    here = folder(path, asked)
    config = json.loads(json.dumps(here.config))
    return dataclasses.replace(record(**changes), config=config, versions=here.versions)


def change(path, part, name, value):
    """Make `config.json` tell something else."""
    file = path / "config.json"
    there = json.loads(file.read_text())
    there[part][name] = value
    file.write_text(json.dumps(there))


def test_the_same_race_opens_its_folder_again(pinned):
    here = folder(pinned, race())
    here.refuse_to_go_on()
    assert here.read() == []
    assert here.remark() is None


def test_a_folder_is_nobodys_until_it_is_pinned(tmp_path):
    assert folder(tmp_path / "new", race()).read() == []
    folder(tmp_path / "new", race(seeds=5)).pin()
    with pytest.raises(RaceError, match="seeds: 5 there, 2 here"):
        folder(tmp_path / "new", race()).read()


@pytest.mark.parametrize("part", ["versions", "programs", "config"])
def test_of_two_that_begin_at_once_the_second_is_refused(tmp_path, part):
    one, other = folder(tmp_path, race()), folder(tmp_path, race())
    getattr(other, part)["jax"] = "9"
    one.pin()
    one.pin()
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(RaceError, match=rf"{part}\.jax: '?\S+ there, '9' here"):
        other.pin()
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (race(seeds=3), "config.protocol.seeds: 2 there, 3 here"),
        (race(rates=(0.1,)), r"sgd.space.learning_rate: \[0.01, 0.1, 1.0\] there, \[0.1\] here"),
        (race(steps=21), "config.task.steps: 20 there, 21 here"),
        (race("b"), "config.entries.b: None there, {.* here"),
    ],
)
def test_another_race_is_refused_and_the_difference_named(pinned, other, difference):
    before = (pinned / "config.json").read_bytes()
    with pytest.raises(RaceError, match=difference):
        folder(pinned, other).read()
    assert (pinned / "config.json").read_bytes() == before


def test_a_task_of_another_size_is_refused(pinned):
    task = dataclasses.replace(parabola(), origin={"depth": 4})
    with pytest.raises(RaceError, match=r"config\.task\.depth: None there, 4 here"):
        folder(pinned, dataclasses.replace(race(), task=task)).read()


def test_another_program_is_refused(pinned):
    with pytest.raises(RaceError, match=r"programs\.entry sgd: '0' there, '2' here"):
        folder(pinned, race(), {**PROGRAMS, "entry sgd": "2"}).read()


def test_other_versions_are_read_with_a_remark_and_never_added_to(pinned):
    asked = race()
    old = own_record(pinned, asked)
    old = dataclasses.replace(old, versions={**old.versions, "jax": "0.0.1"})
    change(pinned, "versions", "jax", "0.0.1")
    append_record(pinned / "records.jsonl", old)
    here = folder(pinned, asked, {**PROGRAMS, "entry sgd": "as the new version lowers it"})
    assert here.read() == [old]
    assert "jax: '0.0.1' there" in here.remark()
    with pytest.raises(RaceError, match=r"versions\.jax: '0.0.1' there"):
        here.refuse_to_go_on()


def test_a_program_that_nothing_is_known_of_is_not_gone_on_with(tmp_path):
    programs = {"task": "1", "entry sgd": None}
    folder(tmp_path, race(), programs).pin()
    here = folder(tmp_path, race(), programs)
    assert here.read() == []
    with pytest.raises(RaceError, match="entry sgd, which calls back into Python"):
        here.refuse_to_go_on()


@pytest.mark.parametrize(
    ("foreign", "difference"),
    [
        ({"config": {"seeds": 9}}, "config.seeds: 9 there, None here"),
        ({"program": "9"}, "program: '9' there, '0' here"),
        ({"versions": {"jax": "9"}}, "versions.jax: '9' there"),
    ],
)
def test_a_record_of_another_race_is_refused_and_the_difference_named(pinned, foreign, difference):
    append_record(pinned / "records.jsonl", own_record(pinned, race()))
    own = own_record(pinned, race(), seed=1)
    append_record(pinned / "records.jsonl", dataclasses.replace(own, **foreign))
    with pytest.raises(RaceError, match=r"record of another race.*seed 1") as caught:
        folder(pinned, race()).read()
    assert difference in str(caught.value)


def test_the_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RaceError, match="not the folder of a race"):
        folder(tmp_path, race())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_kill_before_the_first_file_is_done_does_no_harm(tmp_path):
    (tmp_path / ".config.json.draft").write_text('{"conf')
    folder(tmp_path, race()).pin()
    folder(tmp_path, race())


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RaceError, match=r"cannot write in .*file/race: Not a directory"):
        folder(tmp_path / "file" / "race", race())


def test_a_configuration_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RaceError, match="not readable"):
        folder(tmp_path, race()).read()


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
    assert "Infinity" not in json.dumps(configuration(asked))
