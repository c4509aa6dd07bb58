"""Workers share a race by its folder alone, and leave what one process leaves."""

import dataclasses
import functools
import threading

import pytest
from race_helpers import KillAfter, Killed, race, together

from gradsmith.race import Display, Protocol, RaceError, Worker, run_race
from gradsmith.race.lock import holders, locked
from gradsmith.race.prepare import prepare
from gradsmith.race.records import read_records

# The best rate is at the edge: trials, an extension that waits for all of them, and a report.
ASKED = dataclasses.replace(
    race("a", "b", rates=(0.01, 0.02), steps=6, noise=0.1), protocol=Protocol(seeds=3, extensions=1)
)
WORKERS = 4


@pytest.fixture(scope="module")
def prepared():
    return prepare(ASKED)


@pytest.fixture(scope="module")
def alone(prepared, tmp_path_factory):
    return outcome(run_race(prepared, tmp_path_factory.mktemp("alone"), Display()))


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr("gradsmith.race.run.POLL_SECONDS", 0.2)


def outcome(records):
    return [dataclasses.replace(record, timing={}) for record in records]


def work(prepared, folder, worker, display=None, count=WORKERS):
    return run_race(prepared, folder, display or Display(), 0.0, Worker(worker, count))


def test_workers_leave_the_records_of_one_process_each_in_a_file_of_its_own(
    prepared, alone, tmp_path
):
    numbers = range(1, WORKERS + 1)
    ended = together(*(functools.partial(work, prepared, tmp_path, worker) for worker in numbers))
    assert any(outcome(records) == alone for records in ended)  # the last one's
    assert outcome(run_race(prepared, tmp_path, Display())) == alone
    files = {path.name for path in tmp_path.glob("records*")}
    assert files == {f"records-{worker}.jsonl" for worker in numbers}
    for worker in numbers:
        own = outcome(read_records(tmp_path / f"records-{worker}.jsonl"))
        assert own == alone[worker - 1 :: WORKERS]
    assert not (tmp_path / "checkpoints").exists()


class Waiting(Display):
    """Says when it is remarked that the worker waits."""

    def __init__(self):
        self.event = threading.Event()

    def remark(self, text):
        assert text == "waiting for 1 runs of other workers"
        self.event.set()


def test_a_worker_that_died_is_waited_for_and_takes_its_run_up(prepared, alone, tmp_path):
    with pytest.raises(Killed):
        work(prepared, tmp_path, 2, KillAfter(9), count=2)  # in its second run
    (other,) = (tmp_path / "checkpoints").iterdir()
    heard, points = Waiting(), KillAfter()

    def again():
        assert heard.event.wait(600)
        assert list((tmp_path / "checkpoints").iterdir()) == [other]
        work(prepared, tmp_path, 2, points, count=2)

    together(again, lambda: work(prepared, tmp_path, 1, heard, 2))
    assert outcome(run_race(prepared, tmp_path, Display())) == alone
    ran = len(read_records(tmp_path / "records-2.jsonl"))
    assert points.seen == 6 * (ran - 1) - 2  # without the first run, and two points of the second


def test_a_race_begun_by_workers_is_taken_up_by_as_many_others_or_by_one(prepared, alone, tmp_path):
    for worker in (1, 3):
        with pytest.raises(Killed):
            work(prepared, tmp_path, worker, KillAfter(3))
    assert outcome(run_race(prepared, tmp_path, Display())) == alone


def test_the_report_is_not_waited_for(prepared, alone, tmp_path):
    folder = tmp_path / "race"
    with pytest.raises(Killed):  # all of tuning: two entries, two trials and two of an extension
        run_race(prepared, folder, KillAfter(8 * 6 + 1))
    records = work(prepared, folder, 1, count=2)
    assert outcome(records) == [*alone[:8], *alone[8::2]]


def test_a_worker_runs_once_at_a_time_and_nobody_alone_beside_it(prepared, tmp_path):
    with locked(tmp_path, 2) as tell:
        tell("dreaming")
        (holder,) = holders(tmp_path)
        assert (holder.name, holder.doing) == ("worker 2", "dreaming")
        with pytest.raises(RaceError, match=r"is being raced by worker 2, process .* since 2"):
            work(prepared, tmp_path, 2)
        with pytest.raises(RaceError, match=r"is being raced by worker 2, process .* since 2"):
            run_race(prepared, tmp_path, Display())
        with locked(tmp_path, 1):
            assert [holder.name for holder in holders(tmp_path)] == ["worker 1", "worker 2"]
    with locked(tmp_path), pytest.raises(RaceError, match="is being raced by process"):
        work(prepared, tmp_path, 1)
    assert holders(tmp_path) == []


def test_whoever_looks_at_a_lock_keeps_nobody_out(tmp_path):
    over = threading.Event()

    def look():
        while not over.is_set():
            holders(tmp_path)

    def hold():
        for _ in range(200):
            with locked(tmp_path, 1):
                pass
        over.set()

    together(look, hold)


def test_a_worker_of_another_race_is_refused(prepared, tmp_path):
    with pytest.raises(Killed):
        work(prepared, tmp_path, 1, KillAfter(1))
    other = dataclasses.replace(ASKED, rates=(0.01, 0.03))
    with pytest.raises(RaceError, match="belongs to another race"):
        work(prepare(other), tmp_path, 2)


@pytest.mark.parametrize("worker", [0, 4, -1])
def test_a_worker_that_is_none_of_them_is_refused(worker):
    with pytest.raises(RaceError, match=rf"there is no worker {worker}/3: they are 1/3 to 3/3"):
        Worker(worker, 3)
