"""Records survive the file and the kill."""

import dataclasses
import math

import pytest
from race_helpers import record

from gradsmith.race import RaceError
from gradsmith.race.records import append_record, read_records

RECORDS = [record(seed=seed, loss=1.0 + seed / 3) for seed in range(3)]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "records.jsonl"
    for one in RECORDS:
        append_record(path, one)
    return path


def test_records_read_back_as_they_were_written(file):
    assert read_records(file) == RECORDS


def test_no_file_is_no_records(tmp_path):
    assert read_records(tmp_path / "records.jsonl") == []


def test_a_last_line_cut_anywhere_is_forgotten_and_written_anew(file):
    whole = file.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for cut in (last + 1, (last + len(whole)) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        assert read_records(file) == RECORDS[:2]
        assert file.read_bytes() == whole[:cut]  # another worker may be writing it
        append_record(file, RECORDS[2])
        assert file.read_bytes() == whole


def test_a_whole_line_that_is_no_record_is_an_error_and_stays(file):
    file.write_bytes(b'{"entry": "sgd"}\n' + file.read_bytes())
    before = file.read_bytes()
    with pytest.raises(RaceError, match="line 1 is not the record of a run"):
        read_records(file)
    assert file.read_bytes() == before


def test_a_line_that_stands_twice_is_one_record(file):
    again = dataclasses.replace(RECORDS[1], timing={"run": 9.0, "step": 9.0, "update": 9.0})
    append_record(file, again)
    assert read_records(file) == RECORDS


def test_two_outcomes_of_one_run_are_an_error_that_names_both_lines(file):
    append_record(file, dataclasses.replace(RECORDS[1], validation_loss=0.5))
    with pytest.raises(RaceError, match=r"line 4 tells another outcome of the run of .*line 2"):
        read_records(file)


def test_a_number_that_json_lacks_is_never_written(tmp_path):
    path = tmp_path / "records.jsonl"
    with pytest.raises(ValueError, match="JSON"):
        append_record(path, dataclasses.replace(RECORDS[0], validation_loss=math.nan))
    assert read_records(path) == []


def test_the_outcome_is_said_in_words():
    assert record(loss=1.25).outcome() == "validation loss 1.250"
    assert record(diverged_at=37).outcome() == "diverged at step 37"
