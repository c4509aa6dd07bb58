"""`gradsmith race` as a worker, and `status`, `merge` and `export` of its folder."""

import csv
import dataclasses
import errno
import io
import json
import shutil
import sys
import textwrap

import jax
import pytest

from gradsmith.cli import main
from gradsmith.race.lock import locked
from gradsmith.race.records import read_records

FILES = {
    "task.py": """
        import jax.numpy as jnp
        from gradsmith.race import Task

        def make_task():
            return Task(
                name="parabola",
                init=lambda key: {"x": jnp.zeros(3)},
                loss=lambda params, batch: jnp.sum((params["x"] - batch) ** 2),
                batch=lambda key: jnp.ones(3),
                selection=jnp.ones(3),
                report=jnp.ones(3),
                target=0.5,
                steps=3,
                examples_per_step=1,
            )
    """
}
COMMAND = ("sgd", "adam", "--task", "task.py:make_task", "--rates", "0.1", "0.3", "--seeds", "1")
COMMAND += ("--extensions", "0", "--no-watch")  # four runs of tuning, and two of the report


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Race once, in a folder beside the task."""
    place = tmp_path_factory.mktemp("whole")
    for name, content in FILES.items():
        (place / name).write_text(textwrap.dedent(content))
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.chdir(place)
        patch.setattr(sys, "argv", ["gradsmith", "race", *COMMAND, "--out", "race"])
        with pytest.raises(SystemExit, match="0"):
            main()
    return place


@pytest.fixture
def raced(whole, tmp_path, monkeypatch):
    """Return a copy of the folder of a race that is over."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "race"


@pytest.fixture
def gradsmith(raced, monkeypatch, capfd, standard_promotion):
    """Run a command beside the task; return exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gradsmith", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capfd.readouterr()
        return exit_.value.code, out, err

    return run


def outcome(file):
    return [dataclasses.replace(record, timing={}) for record in read_records(file)]


def keep(folder, worker, share):
    """Make of the folder of a race that of a worker, which has done its share so far."""
    lines = (folder / "records.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "records.jsonl").unlink()
    (folder / f"records-{worker}.jsonl").write_bytes(b"".join(lines[share]))


def test_a_worker_does_its_share_and_says_that_others_are_left(gradsmith, raced, tmp_path):
    expected = outcome(raced / "records.jsonl")
    keep(raced, 2, slice(0, 4))
    code, out, err = gradsmith("race", *COMMAND, "--out", "race", "--worker", "1/2")
    assert (code, out) == (0, "")
    assert "1 runs of other workers are left; the last one shows the table" in err
    assert outcome(raced / "records-1.jsonl") == expected[4:5]
    code, out, _ = gradsmith("race", *COMMAND, "--out", "race", "--worker", "2/2")
    assert code == 0
    assert "adam" in out


def test_slurm_says_which_worker_a_task_of_an_array_is(gradsmith, raced, monkeypatch):
    keep(raced, 1, slice(0, 5))
    for part, value in {"ID": 12, "COUNT": 2, "MIN": 10, "STEP": 2}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{part}", str(value))
    assert gradsmith("race", *COMMAND, "--out", "race", "--worker", "slurm")[0] == 0
    assert len(read_records(raced / "records-2.jsonl")) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--worker", "slurm"], "this is no task of a Slurm array; write --worker 2/4"),
        (["--worker", "2"], "--worker 2: write which one of how many, such as 2/4, or slurm"),
        (["--worker", "5/4"], "there is no worker 5/4: they are 1/4 to 4/4"),
        (["--worker", "0/4"], "there is no worker 0/4"),
        (["--worker", "1/4", "--ray", "local"], "give one of them"),
    ],
    ids=" ".join,
)
def test_a_worker_that_makes_no_sense_is_refused(gradsmith, arguments, message):
    code, _, err = gradsmith("race", *COMMAND, *arguments)
    assert code == 2
    assert message in err


def test_a_folder_that_cannot_be_written_any_more_is_a_sentence(gradsmith, raced, monkeypatch):
    def refused(*arguments):
        raise OSError(errno.EROFS, "Read-only file system", "race/records.jsonl")

    keep(raced, 1, slice(0, 5))
    with monkeypatch.context() as patch:
        patch.setattr("gradsmith.race.run.append_record", refused)
        code, _, err = gradsmith("race", *COMMAND, "--out", "race")
    assert code == 2
    assert "Read-only file system: 'race/records.jsonl'; what is finished is kept" in err
    assert gradsmith("race", *COMMAND, "--out", "race")[0] == 0


def test_status_says_how_far_a_race_is_and_who_runs_what(gradsmith, raced):
    code, out, _ = gradsmith("race", "status", "race")
    assert code == 0
    assert out.splitlines() == [
        "race: sgd, adam on parabola",
        "tuning: 4 of 4 runs",
        "extensions: 0 of at most 0 runs",
        "report: 2 of 2 runs",
        "nobody races there now",
    ]
    keep(raced, 1, slice(0, 3))
    with locked(raced, 1) as tell:
        tell("sgd, rate 0.1, tuning seed 1")
        _, out, _ = gradsmith("race", "status", "race")
    lines = out.splitlines()
    assert lines[1:4] == [
        "tuning: 3 of 4 runs",
        "extensions: 0 of at most 0 runs",
        "report: 0 of 2 runs",
    ]
    assert lines[4].startswith("worker 1, process ")
    assert lines[4].endswith(": sgd, rate 0.1, tuning seed 1")


def test_watch_ends_with_the_table_of_a_race_that_is_over(gradsmith, raced):
    code, out, err = gradsmith("race", "watch", "race")
    assert code == 0
    assert "Race on parabola" in out
    assert "is better than" in out or "not distinguishable" in out or "1 seed" in out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert err == "going on after 6 finished runs\n"
    assert (out + err).replace("\n", "").isprintable()


def test_watch_says_when_nobody_races_any_more(gradsmith, raced):
    keep(raced, 1, slice(0, 3))
    code, out, err = gradsmith("race", "watch", "race")
    assert (code, out) == (1, "")
    assert "nobody races in race now, and the race is not over" in err


def test_merge_makes_one_file_of_workers_in_folders_of_one_race(gradsmith, raced, tmp_path):
    expected = (raced / "records.jsonl").read_bytes()
    other = shutil.copytree(raced, tmp_path / "other")
    keep(raced, 1, slice(0, None, 2))
    keep(other, 2, slice(1, None, 2))
    (other / "readings-4.jsonl").write_text("what was read\n")
    code, out, _ = gradsmith("race", "merge", "race", "other")
    assert (code, out) == (0, "6 records in race/records.jsonl\n")
    assert (raced / "records.jsonl").read_bytes() == expected
    assert not (raced / "records-1.jsonl").exists()
    assert (raced / "readings-4.jsonl").read_text() == "what was read\n"
    assert (other / "records-2.jsonl").exists()


def test_folders_of_two_races_are_not_merged(gradsmith, raced, tmp_path):
    other = shutil.copytree(raced, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["config"]["protocol"]["seeds"] = 9
    (other / "config.json").write_text(json.dumps(config))
    before = (raced / "records.jsonl").read_bytes()
    code, _, err = gradsmith("race", "merge", "race", "other")
    assert code == 2
    assert "other is that of another race than race" in err
    assert "config.protocol.seeds: 1 there, 9 here" in err
    assert (raced / "records.jsonl").read_bytes() == before


def test_nothing_is_merged_while_somebody_races(gradsmith, raced):
    with locked(raced, 1):
        code, _, err = gradsmith("race", "merge", "race")
    assert code == 2
    assert "race is being raced by worker 1, process" in err


def test_export_writes_a_row_a_run(gradsmith, raced):
    records = read_records(raced / "records.jsonl")
    code, out, _ = gradsmith("race", "export", "race")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    for row, record in zip(rows, records, strict=True):
        assert (row["entry"], int(row["seed"])) == (record.entry, record.seed)
        assert float(row["validation_loss"]) == record.validation_loss
        assert float(row["settings.learning_rate"]) == record.rate
        assert json.loads(row["curve.validation_loss"]) == record.curve.validation_loss
        assert int(row["passes.forward"]) == record.passes["forward"]
        assert row["diverged_at"] == ""
    assert gradsmith("race", "export", "race", "--csv", "runs.csv")[:2] == (0, "")
    assert (raced.parent / "runs.csv").read_text() == out


def test_export_to_parquet_keeps_lists_and_numbers(gradsmith, raced):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert gradsmith("race", "export", "race", "--parquet", "runs.parquet")[0] == 0
    rows = parquet.read_table(raced.parent / "runs.parquet").to_pylist()
    for row, record in zip(rows, read_records(raced / "records.jsonl"), strict=True):
        assert row["curve.step"] == record.curve.step
        assert row["validation_loss"] == record.validation_loss


def test_without_pyarrow_parquet_is_refused_with_a_sentence(gradsmith, raced, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = gradsmith("race", "export", "race", "--parquet", "runs.parquet")
    assert code == 2
    assert "--parquet needs pyarrow: pip install pyarrow" in err
    assert not (raced.parent / "runs.parquet").exists()


@pytest.mark.parametrize("command", ["status", "watch", "merge", "export"])
def test_what_is_no_folder_of_a_race_is_refused(gradsmith, command):
    code, _, err = gradsmith("race", command, ".")
    assert code == 2
    assert "not the folder of a race" in err
    assert "no config.json" in err
    if command in ("status", "merge"):
        code, _, err = gradsmith("race", command)
        assert code == 2
        assert "name at least one folder" in err
