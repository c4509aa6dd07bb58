"""What cannot be raced is refused before anything runs, with the reason."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest
from race_helpers import SGD, parabola, race

from gradsmith.race import Entry, Race, RaceError, run_race


def refusal(tmp_path, build=optax.sgd, **task):
    asked = Race(dataclasses.replace(parabola(), **task), (Entry("mine", build),), (0.1,))
    with pytest.raises(RaceError) as caught:
        run_race(asked, tmp_path)
    assert not (tmp_path / "config.json").exists()  # nothing has begun: mend it and try again
    return str(caught.value)


def from_update(update):
    return lambda lr: optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def test_a_branch_on_the_rate_is_called_by_its_name(tmp_path):
    def careful(lr):
        if lr > 1:
            raise ValueError
        return optax.sgd(lr)

    assert "branches on the learning rate" in refusal(tmp_path, careful)
    assert "branches on the learning rate" in refusal(tmp_path, lambda lr: optax.sgd(float(lr)))


def test_a_branch_on_the_gradient_is_told_from_one_on_the_rate(tmp_path):
    def update(updates, state, params=None):
        return (updates if updates["x"][0] > 0 else params), state

    message = refusal(tmp_path, from_update(update))
    assert "learning rate" not in message
    assert "mine fails in its first step: TracerBoolConversionError" in message


def test_an_error_in_the_update_is_quoted(tmp_path):
    def update(updates, state, params=None):
        return undefined(updates), state  # noqa: F821

    message = refusal(tmp_path, from_update(update))
    assert "first step: NameError: name 'undefined' is not defined" in message
    assert "gradsmith check" in message


def test_three_values_returned_are_an_error_of_the_entry(tmp_path):
    message = refusal(tmp_path, from_update(lambda u, s, p=None: (u, s, p)))
    assert message.startswith("mine fails in its first step: ValueError: too many values")


def test_a_state_that_changes_its_dtype_is_named(tmp_path):
    class State(NamedTuple):
        count: jax.Array

    def build(lr):
        def update(updates, state, params=None):
            return updates, State(state.count.astype(jnp.float32))

        return optax.GradientTransformation(lambda params: State(jnp.int32(0)), update)

    message = refusal(tmp_path, build)
    assert "its state in a step: .count became float32[] from int32[]" in message


def test_updates_of_another_shape_are_named(tmp_path):
    message = refusal(
        tmp_path,
        from_update(lambda u, s, p=None: (jax.tree.map(lambda x: jnp.stack([x, x]), u), s)),
    )
    assert "updates of mine do not fit the parameters: ['x'] became [2,3] from [3]" in message


@pytest.mark.parametrize(
    "build",
    [
        lambda lr: optax.sgd(0.1),
        optax.inject_hyperparams(optax.sgd),  # holds the first rate in its state
    ],
    ids=["ignored", "injected"],
)
def test_a_rate_that_makes_no_difference_is_refused(tmp_path, build):
    assert "learning rate makes no difference to mine" in refusal(tmp_path, build)


def test_parameters_that_cannot_be_trained_are_named(tmp_path):
    message = refusal(tmp_path, init=lambda key: {"x": jnp.arange(3)})
    assert "task parabola has a parameter that cannot be trained: ['x'] is int32[3]" in message


def test_a_loss_that_is_no_number_is_refused(tmp_path):
    message = refusal(tmp_path, loss=lambda params, batch: params["x"] - batch)
    assert "the loss of task parabola on a batch is float32[3]" in message
    assert "is tuple" in refusal(tmp_path, loss=lambda params, batch: (jnp.float32(0), 1))


def test_a_task_that_fails_says_in_which_function(tmp_path):
    def no_data(key):
        raise FileNotFoundError("data.csv")

    assert "batch of task parabola fails: FileNotFoundError: data.csv" in refusal(
        tmp_path, batch=no_data
    )
    message = refusal(tmp_path, report=jnp.zeros((7, 7)))
    assert "loss of task parabola on the report batch fails" in message


def test_nobody_runs_when_one_of_many_cannot(tmp_path):
    bad = Entry("bad", from_update(lambda u, s, p=None: (u, s, p)))
    asked = dataclasses.replace(race(), entries=(SGD, bad))
    with pytest.raises(RaceError, match="bad fails"):
        run_race(asked, tmp_path)
    assert not (tmp_path / "records.jsonl").exists()
