"""A full disk, a folder that becomes read-only, a device without memory: no work is lost."""

import dataclasses
import errno
import functools
import os
import resource

import jax
import jax.numpy as jnp
import optax
import pytest
from race_helpers import parabola, race

import gradsmith as gs
from gradsmith.race import Display, Entry, Protocol, Race, RaceError, run_race
from gradsmith.race.plan import plan
from gradsmith.race.prepare import prepare
from gradsmith.race.records import read_records

ASKED = race(rates=(0.01, 0.1), steps=6, noise=0.1, seeds=1)  # three runs of six points


def outcome(records):
    return [dataclasses.replace(record, timing={}) for record in records]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return outcome(run_race(ASKED, tmp_path_factory.mktemp("whole"), Display()))


@pytest.fixture
def disk():
    """Call it with the size that no file may exceed from now on; without, the disk is free."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = lambda size=before[0]: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    yield limit
    limit()


class At(Display):
    """Calls a function at some points, counted over all runs; keeps what is remarked."""

    def __init__(self, **points):
        self.points = {int(name.removeprefix("p")): call for name, call in points.items()}
        self.seen = 0
        self.remarks = []

    def advance(self, step, loss, seconds):
        self.seen += 1
        self.points.get(self.seen, lambda: None)()

    def remark(self, text):
        self.remarks.append(text)


def test_a_disk_that_is_full_at_a_record_loses_that_run_at_most(tmp_path, disk, undisturbed):
    file = tmp_path / "records.jsonl"
    full = At(p12=lambda: disk(file.stat().st_size + 100))
    with pytest.raises(OSError, match="File too large"):
        run_race(ASKED, tmp_path, full)
    disk()
    assert not file.read_bytes().endswith(b"\n")  # some of the record found room
    assert outcome(read_records(file)) == undisturbed[:1]
    again = At()
    assert outcome(run_race(ASKED, tmp_path, again)) == undisturbed
    assert again.seen == 12


def test_a_disk_that_is_full_at_a_checkpoint_does_not_stop_the_run(tmp_path, disk, undisturbed):
    full = At(p2=lambda: disk(10), p6=disk)
    assert outcome(run_race(ASKED, tmp_path, full, checkpoint_seconds=0.0)) == undisturbed
    assert len(full.remarks) == 4  # points 2 to 5 of the first run
    assert "no checkpoint was written at step 2" in full.remarks[0]
    assert full.remarks[0].endswith("; the run goes on")


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_folder_that_cannot_be_written_any_more_is_an_error_of_the_system_and_goes_on_later(
    tmp_path, monkeypatch, undisturbed, number
):
    def refused(file):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        broken = At(p12=lambda: patch.setattr("os.fsync", refused))
        with pytest.raises(OSError, match=os.strerror(number)):
            run_race(ASKED, tmp_path, broken)
    assert outcome(run_race(ASKED, tmp_path, Display())) == undisturbed


def huge(lr):
    """SGD that keeps an array of a petabyte."""

    def init(params):
        return jnp.zeros(2**48)

    def update(updates, state, params=None):
        moved = state + 1.0
        return jax.tree.map(lambda u: -lr * (u + moved[0]), updates), moved

    return optax.GradientTransformation(init, update)


def test_an_entry_that_needs_more_memory_than_there_is_is_named(tmp_path):
    entries = (Entry("sgd", optax.sgd), Entry("huge", huge))
    asked = Race(parabola(), entries, (0.1,), Protocol(seeds=1))
    with pytest.raises(RaceError, match="the device has not enough memory for huge") as caught:
        run_race(asked, tmp_path, Display())
    assert (
        "race on a device with more, on several (--mesh), with a smaller task, without that entry"
        in str(caught.value)
    )


def test_memory_that_runs_out_in_the_middle_keeps_what_is_finished(
    tmp_path, monkeypatch, undisturbed
):
    def exhausted():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.")

    with pytest.raises(RaceError, match=r"for sgd: RESOURCE_EXHAUSTED.*\n.*finished is kept"):
        run_race(ASKED, tmp_path, At(p8=exhausted))
    assert outcome(read_records(tmp_path / "records.jsonl")) == undisturbed[:1]
    assert outcome(run_race(ASKED, tmp_path, Display())) == undisturbed


def test_another_fault_of_the_device_is_told_as_it_is(tmp_path):
    def broken():
        raise jax.errors.JaxRuntimeError("INTERNAL: a cable fell out")

    with pytest.raises(jax.errors.JaxRuntimeError, match="cable"):
        run_race(ASKED, tmp_path, At(p8=broken))


def test_a_plan_names_the_entry_that_needs_more_memory_than_there_is():
    asked = Race(parabola(), (Entry("huge", huge),), (0.1,), Protocol(seeds=1))
    with pytest.raises(RaceError, match="the device has not enough memory for huge"):
        plan(prepare(asked))


def test_a_disk_that_is_full_at_the_readings_keeps_the_run(tmp_path, disk):
    watch = functools.partial(gs.watch, readings=["sizes"])
    whole = outcome(run_race(ASKED, tmp_path / "whole", Display(), watch=watch))
    full = At(p18=lambda: disk(10))  # the last point of the reported run
    folder = tmp_path / "race"
    with pytest.raises(OSError, match="File too large"):
        run_race(ASKED, folder, full, checkpoint_seconds=0.0, watch=watch)
    disk()
    assert outcome(read_records(folder / "records.jsonl")) == whole[:2]
    again = At()
    assert outcome(run_race(ASKED, folder, again, watch=watch)) == whole
    assert again.seen == 1  # from the last checkpoint
    (text,) = (path.read_text() for path in folder.glob("readings*"))
    assert [text] == [path.read_text() for path in (tmp_path / "whole").glob("readings*")]
