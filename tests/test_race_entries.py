"""A factory gets the rate where it wants it, and what is no factory is refused."""

import functools

import jax.numpy as jnp
import optax
import pytest

from gradsmith.race import Entry, RaceError, entry
from gradsmith.race.entries import rate_parameter


def by_lr(constant: float = 0.9, lr: float = 0.1):
    return optax.sgd(lr, constant)


def by_first(speed, constant=0.9):
    return optax.sgd(speed, constant)


def by_position(speed, /):
    return optax.sgd(speed)


@pytest.mark.parametrize(
    ("factory", "parameter"),
    [
        (optax.adamw, "learning_rate"),
        (optax.contrib.muon, "learning_rate"),
        (by_lr, "lr"),
        (by_first, "speed"),
        (functools.partial(by_lr, constant=0.5), "lr"),
        (lambda: optax.sgd(0.1), None),
    ],
)
def test_the_rate_goes_to_the_parameter_of_that_name_else_to_the_first(factory, parameter):
    assert rate_parameter(factory) == parameter


@pytest.mark.parametrize("factory", [by_lr, by_first, by_position, optax.sgd])
def test_an_entry_builds_with_the_rate_it_is_given(factory):
    tx = entry("it", factory).build(0.25)
    updates, _ = tx.update({"x": 2.0}, tx.init({"x": 0.0}), {"x": 0.0})
    assert updates["x"] == -0.5


def test_other_arguments_are_kept():
    tx = entry("it", functools.partial(by_lr, constant=0.5)).build(1.0)
    _, state = tx.update({"x": 2.0}, tx.init({"x": 0.0}))
    assert tx.update({"x": 0.0}, state)[0]["x"] == -1.0


def needs_more(lr, constant, power, decay=0.1):
    raise NotImplementedError


def raises(lr):
    return optax.sgd(lr) + matrix_ops  # noqa: F821


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (needs_more, "needs a value for constant and power as well: --arg constant=VALUE"),
        (raises, "fails when called: NameError: name 'matrix_ops' is not defined"),
        (lambda lr: lr, "returns a float, not an Optax optimizer"),
        (lambda lr: (optax.sgd(lr), 3), "returns a tuple, not an Optax optimizer"),
        (lambda: optax.sgd(0.1), "takes no argument"),
        (optax.sgd(0.1), "is a GradientTransformationExtraArgs, not a function of a learning rate"),
    ],
)
def test_what_makes_no_optimizer_of_a_rate_is_refused(factory, message):
    with pytest.raises(RaceError, match=message):
        entry("mine", factory)


def test_an_entry_from_python_says_what_it_is():
    assert Entry("it", by_lr).origin == {"function": f"{__name__}.by_lr"}
    half = functools.partial(by_lr, constant=0.5)
    expected = {"function": f"{__name__}.by_lr", "arguments": ["constant=0.5"]}
    assert Entry("it", half).origin == entry("it", half).origin == expected


def test_a_schedule_of_its_own_is_told_by_the_first_line_of_its_docstring():
    def half(step, steps, share=0.5):
        """The same share.

        At every step.
        """
        return jnp.float32(share)

    assert Entry("it", optax.sgd).own_schedule is None
    partial = functools.partial(half, share=0.25)
    for own, said in (
        (partial, "The same share."),
        (lambda *_: jnp.ones(()), "one without a docstring"),
    ):
        assert Entry("it", optax.sgd, schedule=own).own_schedule == said
