"""What a race reads inside an optimizer is what happens there, and changes nothing."""

import dataclasses
import functools
import itertools
import json
import types

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from race_helpers import CENTRE, SGD, KillAfter, Killed, Remarks, factors, parabola, single

import gradsmith as gs
from gradsmith.race import Display, Entry, Protocol, Race, Stream, Worker, run_race
from gradsmith.race import course as course_of_a_run
from gradsmith.race.watching import Watcher

sizes = functools.partial(gs.watch, readings=["sizes"])


def movement(step):
    """How far the parameters are from those of the reading before."""
    return {f"{x.path}/moved": jnp.linalg.norm(x.param - step.kept[x.path]) for x in step.leaves}


def before(step):
    return {f"{x.path}/before": x.mean(jnp.equal(x.update, step.kept[x.path])) for x in step.leaves}


memories = functools.partial(
    gs.watch,
    readings=[
        "sizes",
        gs.Reading(movement, lambda step: {x.path: jnp.asarray(x.param) for x in step.leaves}),
        gs.Reading(before, lambda step: {x.path: x.update for x in step.leaves}, keeps_before=True),
    ],
)


def outcome(records):
    return [dataclasses.replace(record, timing={}) for record in records]


def files(folder):
    return {path.name: path.read_text() for path in folder.glob("readings*")}


def lines(folder):
    (text,) = files(folder).values()
    return [json.loads(line) for line in text.splitlines()]


def test_readings_are_those_of_the_run_in_closed_form(tmp_path):
    run_race(single(SGD, 0.1, steps=40), tmp_path, watch=memories)
    found = lines(tmp_path)
    assert {(one["entry"], one["trial"], one["seed"]) for one in found} == {("sgd", 0, 0)}
    steps = [one["step"] for one in found]
    assert steps == list(range(2, 41, 2))  # of every part of two steps the second
    left = np.concatenate([[1.0], np.cumprod(factors(0.1, 40))])  # of the distance to the centre
    values = {name: [one["values"][f"x/{name}"] for one in found] for name in ("moved", "before")}
    updates = [one["values"]["x/update_norm"] for one in found]
    size = np.linalg.norm(CENTRE)
    expected = [size * (left[step - 1] - left[step]) for step in steps]
    np.testing.assert_allclose(updates, expected, rtol=1e-3)
    places = [0.0, *(size * (1 - left[step - 1]) for step in steps)]
    np.testing.assert_allclose(values["moved"], np.diff(places), rtol=1e-3, atol=1e-6)
    assert values["before"] == [0.0] * 20  # the rate changes with every step
    rates = [one["values"]["x/effective_rate"] for one in found]
    np.testing.assert_allclose(rates, [(1 - factors(0.1, 40)[s - 1]) / 2 for s in steps], rtol=1e-3)


def noisy_race():
    adam = lambda rate: optax.chain(gs.scale_by_adam(), optax.scale_by_learning_rate(rate))
    entries = (Entry("sgd", lambda rate: optax.sgd(rate, 0.9)), Entry("adam", adam))
    return Race(parabola(noise=0.1, steps=8), entries, (0.02,), Protocol(seeds=2))


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    return folder, run_race(noisy_race(), folder, Display(), watch=memories)


def test_records_are_the_same_to_the_bit_without(watched, tmp_path):
    folder, records = watched
    assert outcome(records) == outcome(run_race(noisy_race(), tmp_path, Display()))
    assert files(tmp_path) == {}
    assert sorted(files(folder)) == [f"readings-{number}.jsonl" for number in (2, 3, 4, 5)]
    for record in records:
        assert ("watch" in record.timing) == (record.seed >= 0)


def test_a_run_that_is_killed_anywhere_leaves_the_same_readings(watched, tmp_path):
    with pytest.raises(Killed):
        run_race(noisy_race(), tmp_path, KillAfter(8 * 2 + 6), 0.0, watch=memories)
    assert files(tmp_path) == {}
    with pytest.raises(Killed):
        run_race(noisy_race(), tmp_path, KillAfter(8 + 2), 0.0, watch=memories)
    assert len(files(tmp_path)) == 1
    run_race(noisy_race(), tmp_path, Display(), watch=memories)
    assert files(tmp_path) == files(watched[0])


def test_workers_leave_the_readings_of_one_process(watched, tmp_path):
    with pytest.raises(Killed):  # tuning, alone, so that nobody waits
        run_race(noisy_race(), tmp_path, KillAfter(8 * 2 + 1))
    for worker in (1, 2):
        run_race(noisy_race(), tmp_path, Display(), executor=Worker(worker, 2), watch=memories)
    assert files(tmp_path) == files(watched[0])


def test_batches_of_the_host_are_those_of_the_steps_that_are_read(tmp_path):
    def stream(seed, count=10**6):
        rng = np.random.default_rng(seed + 9)
        return (rng.standard_normal(3).astype(np.float32) for _ in range(count))

    asked = single(SGD, 1e-6, steps=60)  # x stays at zero: the gradient is -2 times the batch
    task = dataclasses.replace(asked.task, batch=Stream(stream))
    run_race(dataclasses.replace(asked, task=task), tmp_path, Display(), watch=sizes)
    batches = list(itertools.islice(stream(0), 60))
    for one in lines(tmp_path):
        expected = 2 * np.linalg.norm(batches[one["step"] - 1])
        np.testing.assert_allclose(one["values"]["x/gradient_norm"], expected, rtol=1e-3)


def test_what_diverges_is_read_until_then(tmp_path):
    asked = single(SGD, 0.1, steps=40, bound=15.0)  # far from the report data, not in tuning
    task = dataclasses.replace(asked.task, report=jnp.asarray(-CENTRE))
    _, record = run_race(dataclasses.replace(asked, task=task), tmp_path, Display(), watch=sizes)
    end = record.diverged_at or 0
    assert 2 < end < 38
    assert [one["step"] for one in lines(tmp_path)] == list(range(2, end + 1, 2))


def test_an_optimizer_that_cannot_be_watched_races_all_the_same(tmp_path):
    def broken(tx, every):
        raise ValueError("it is opaque")

    heard = Remarks()
    records = run_race(single(SGD), tmp_path, heard, watch=broken)
    assert heard.remarks == ["nothing is read inside sgd: ValueError: it is opaque"]
    assert [record.seed for record in records] == [-1, 0]
    assert files(tmp_path) == {}


def test_what_looking_takes_is_in_no_other_time(tmp_path, monkeypatch):
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(
        course_of_a_run, "time", types.SimpleNamespace(perf_counter=lambda: clock.now)
    )
    look = Watcher.__call__

    def slow(*arguments):
        clock.now += 1000.0
        return look(*arguments)

    monkeypatch.setattr(Watcher, "__call__", slow)
    *_, record = run_race(single(SGD), tmp_path, Display(), watch=sizes)
    assert record.timing["run"] == record.timing["step"] == 0.0
    assert clock.now == 20_000.0


def test_a_run_of_few_steps_is_read_where_two_are_left(tmp_path):
    run_race(single(SGD, steps=3), tmp_path, Display(), watch=sizes)
    assert [one["step"] for one in lines(tmp_path)] == [2, 3]


def test_several_matrices_and_numbers_that_are_not_finite_are_written(tmp_path):
    task = dataclasses.replace(
        parabola(),
        init=lambda key: {"x": jnp.zeros((2, 3, 4))},
        loss=lambda params, batch: jnp.sum((params["x"] - 1) ** 2) + 0 * jnp.sum(batch),
    )
    axes = gs.MatrixAxes(batch_axis=0)
    asked = Race(task, (SGD,), (0.01,), Protocol(seeds=1))
    run_race(asked, tmp_path, Display(), watch=functools.partial(sizes, axes=axes))
    first = lines(tmp_path)[0]["values"]
    assert len(first["x/update_norm"]) == 2
    task = dataclasses.replace(task, init=lambda key: {"x": jnp.zeros(3)}, loss=_flat)
    flat = Race(task, (Entry("decay", _decay),), (0.01,), Protocol(seeds=1))
    run_race(flat, tmp_path / "flat", Display(), watch=sizes)
    assert lines(tmp_path / "flat")[0]["values"]["x/update_ratio"] is None


def _flat(params, batch):
    return 0 * jnp.sum(params["x"]) + 0 * jnp.sum(batch)


def _decay(rate):
    return optax.chain(optax.add_decayed_weights(1.0), optax.scale_by_learning_rate(rate))


@pytest.mark.parametrize("first", [None, memories], ids=["off then on", "on then off"])
def test_looking_inside_may_be_switched_in_the_middle(watched, tmp_path, first):
    """Two runs of tuning and three of four reported ones; the last of these is under way."""
    folder, records = watched
    then = memories if first is None else None
    heard = Remarks()
    with pytest.raises(Killed):
        run_race(noisy_race(), tmp_path, KillAfter(8 * 4 + 6), 0.0, watch=first)
    there = files(tmp_path)
    found = run_race(noisy_race(), tmp_path, heard, 0.0, watch=then)
    assert outcome(found) == outcome(records)
    (remark,) = heard.remarks
    assert "another run: its number of readings is" in remark
    assert "the run starts again" in remark
    whole, after = files(folder), files(tmp_path)
    assert after == {name: whole[name] for name in after}
    missing = set(whole) - set(after)
    assert len(there) == (2 if first else 0)
    assert len(missing) == 2
