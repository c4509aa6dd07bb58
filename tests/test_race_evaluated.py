"""Everyone is evaluated where its own state says: tuning and report, curve and target."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from race_helpers import CENTRE, factors, parabola, single

import gradsmith as gs
from gradsmith.race import Entry, RaceError, run_race
from gradsmith.race.compiled import lower_entry

DISTANCE = np.concatenate([[1.0], np.cumprod(factors(0.1, 20))])  # of SGD from the centre


def losses_of(distance):
    return np.sum(CENTRE**2) * distance**2


def averages(decay=0.5):
    found, mean, total = [DISTANCE[0]], 0.0, 0.0
    for distance in DISTANCE[1:]:
        mean, total = decay * mean + (1 - decay) * distance, decay * total + 1 - decay
        found.append(mean / total)
    return np.array(found)


def averaged(lr):
    return optax.chain(optax.sgd(lr), gs.average_weights(0.5))


def test_validation_selection_and_report_are_at_the_average(tmp_path):
    tuned, reported = run_race(single(Entry("averaged", averaged), target=0.1), tmp_path)
    expected = losses_of(averages())
    for record in (tuned, reported):
        np.testing.assert_allclose(record.curve.validation_loss, expected, rtol=1e-3, atol=1e-9)
        assert record.validation_loss == record.curve.validation_loss[-1]
        assert record.steps_to_target == next(i for i in range(21) if expected[i] <= 0.1)
    assert (expected > 1.2 * losses_of(DISTANCE)).any()
    # Training goes on at the parameters themselves.
    np.testing.assert_allclose(
        reported.curve.training_loss[1:], losses_of(DISTANCE)[:-1], rtol=1e-3, atol=1e-9
    )


def test_schedule_free_is_evaluated_at_its_average(tmp_path):
    """At a constant rate its average is the mean of the points of SGD with gradients of `y`."""
    free = lambda lr: optax.contrib.schedule_free(optax.sgd(lr), lr, b1=0.5)
    steady = Entry("free", free, schedule=lambda step, steps: jnp.ones(()))
    record = run_race(single(steady), tmp_path)[-1]
    z = x = y = np.zeros(3)
    expected = [np.sum((x - CENTRE) ** 2)]
    for t in range(1, 21):
        z = z - 0.1 * 2 * (y - CENTRE)
        x = x + (z - x) / t
        y = 0.5 * z + 0.5 * x
        expected.append(np.sum((x - CENTRE) ** 2))
    np.testing.assert_allclose(record.curve.validation_loss, expected, rtol=1e-3)


class Halfway(NamedTuple):
    start: Any

    def averaged_params(self, params):
        return jax.tree.map(lambda a, b: (a + b) / 2, self.start, params)


def test_a_stranger_says_by_a_method_where_it_is_evaluated(tmp_path):
    def build(lr):
        keep = optax.GradientTransformation(Halfway, lambda u, state, params=None: (u, state))
        return optax.chain(optax.sgd(lr), keep)

    record = run_race(single(Entry("halfway", build)), tmp_path)[-1]
    expected = losses_of((1 + DISTANCE) / 2)
    np.testing.assert_allclose(record.curve.validation_loss, expected, rtol=1e-3)


def test_another_evaluation_is_another_program():
    found = {}
    for share in (0.5, 0.75):
        found[share] = lower_entry(parabola(), read_by(lambda p, share=share: share * p), {})
    assert found[0.5].fingerprint() != found[0.75].fingerprint()


def read_by(read):
    class State(NamedTuple):
        kept: Any

        def averaged_params(self, params):
            return jax.tree.map(read, params)

    init = lambda params: State(jnp.zeros(()))
    keep = optax.GradientTransformation(init, lambda u, state, params=None: (u, state))
    return Entry("own", lambda lr: optax.chain(optax.sgd(lr), keep))


def test_what_cannot_be_evaluated_is_refused_before_anything_runs(tmp_path):
    twice = lambda lr: optax.chain(averaged(lr), gs.average_weights())
    with pytest.raises(RaceError, match="evaluation of twice fails: ValueError: the state has 2"):
        run_race(single(Entry("twice", twice)), tmp_path)
    with pytest.raises(RaceError, match="what own evaluates does not fit the parameters"):
        run_race(single(read_by(lambda p: jnp.stack([p, p]))), tmp_path)
    assert not list(tmp_path.iterdir())
