"""Batches of the host come in order, once each, also after a kill; and wrong ones are refused."""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from race_helpers import CENTRE, SGD, parabola, single

from gradsmith.race import Display, Entry, Protocol, Race, RaceError, Stream, run_race
from gradsmith.race.feeding import Feed
from gradsmith.race.plan import plan
from gradsmith.race.prepare import prepare


class KilledError(Exception):
    """Stands for kill -9: nothing after it runs."""


class KillAt(Display):
    """Kill the process when a run comes to this step."""

    def __init__(self, step):
        self._step = step

    def advance(self, step, loss, seconds):
        if step >= self._step:
            raise KilledError


def noisy(seed, count=10**6):
    """Centres that are another one at every step and seed."""
    rng = np.random.default_rng(seed + 100)
    return (CENTRE + rng.standard_normal(3).astype(np.float32) for _ in range(count))


def streamed(open_=noisy, steps=47):
    return dataclasses.replace(parabola(steps=steps), batch=Stream(open_))


def race(task, entry=SGD, seeds=1):
    return Race(task, (entry,), (0.1,), Protocol(seeds=seeds))


def averaging(rate):
    """An optimizer under which x becomes the mean of all batches so far.

    The gradient is 2 (x - batch), so that x goes to x - (x - batch) / t. A race refuses who does
    not use the rate: here it changes a digit that the test does not look at.
    """

    def update(updates, state, params=None):
        step = state + 1
        return {"x": -updates["x"] / 2 / step * (1 + 1e-3 * rate)}, step

    return optax.GradientTransformation(lambda params: jnp.float32(0), update)


def losses(records):
    return [record.curve.training_loss for record in records]


def test_each_step_gets_the_next_batch_of_its_seed(tmp_path):
    _, record = run_race(race(streamed(), Entry("mean", averaging)), tmp_path, Display())
    mean = np.mean(list(itertools.islice(noisy(0), 47)), axis=0)
    np.testing.assert_allclose(record.validation_loss, np.sum((mean - CENTRE) ** 2), rtol=1e-2)


@pytest.mark.parametrize("at", [2, 30, 47])
def test_a_killed_run_goes_on_with_the_batch_that_it_had_not_had(tmp_path, at):
    whole = run_race(race(streamed()), tmp_path / "whole", Display())
    folder = tmp_path / "killed"
    with pytest.raises(KilledError):
        run_race(race(streamed()), folder, KillAt(at), checkpoint_seconds=0.0)
    assert losses(run_race(race(streamed()), folder, Display())) == losses(whole)


def test_seeds_have_streams_of_their_own(tmp_path):
    *_, one, other = run_race(race(streamed(), seeds=2), tmp_path, Display())
    assert one.curve != other.curve


def test_a_portion_holds_the_batches_up_to_a_point_and_no_more():
    feed = Feed(streamed(lambda seed: (np.full(2, i) for i in range(47)), steps=47), 0, 4)
    assert feed.until(6)[:2, 0].tolist() == [4, 5]
    assert feed.until(9)[:, 0].tolist() == [6, 7, 8]


def test_a_stream_that_ends_too_early_is_named(tmp_path):
    short = streamed(lambda seed: noisy(seed, 30))
    with pytest.raises(RaceError, match="parabola ends after 30 of 47 batches"):
        run_race(race(short), tmp_path, Display())


def test_a_stream_without_a_batch_is_refused():
    with pytest.raises(RaceError, match="has no batch at seed 0"):
        prepare(race(streamed(lambda seed: iter(()))))


def test_a_batch_of_another_form_is_refused(tmp_path):
    mixed = streamed(lambda seed: (np.zeros(3 if i < 5 else 1, np.float32) for i in range(50)))
    with pytest.raises(RaceError, match=r"batch 5 .* float32\[1\], the first one float32\[3\]"):
        run_race(race(mixed), tmp_path, Display())


def test_the_first_batch_is_part_of_what_a_folder_belongs_to(tmp_path):
    run_race(race(streamed()), tmp_path, Display())
    with pytest.raises(RaceError, match="belongs to another race"):
        run_race(race(streamed(lambda seed: noisy(seed + 1))), tmp_path, Display())


def test_a_stream_can_be_planned():
    (one,) = plan(prepare(race(streamed())))
    assert one.runs == 2


def test_without_a_stream_nothing_is_fed():
    assert Feed(single(SGD).task, 0, 0).until(3) == ()


def test_the_form_of_a_stream_is_read_once():
    """To open one may mean to open files; what a race traces asks for the form again and again."""
    opened = []

    def counting(seed):
        opened.append(seed)
        return noisy(seed)

    task = streamed(counting)
    prepare(race(task))
    Feed(task, 3, 0)
    assert opened == [0, 3]
