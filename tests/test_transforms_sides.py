import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs

PARAMS = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
RATE = gs.scale_by_learning_rate(0.1)


def remarks(*parts):
    return gs.describe(optax.chain(*parts), PARAMS).remarks


@pytest.mark.parametrize(
    "chain",
    [
        (gs.muon(0.1),),
        (gs.soap(0.1, weight_decay=0.1), gs.qk_clip({"kernel": 0.5}), gs.average_weights()),
        (gs.momentum(), gs.decay_weights(0.1), RATE),
        (gs.momentum(), gs.average_weights()),  # whose learning rate is not ours to know
        (optax.adam(0.1),),
    ],
)
def test_an_order_that_means_what_it_says_is_not_remarked_on(chain):
    assert remarks(*chain) == ()


def test_two_learning_rates_are_pointed_out():
    (remark,) = remarks(gs.muon(0.1), RATE)
    assert remark == (
        "kernel and 1 more: two learning rates act on it, and their product counts; keep one"
    )


@pytest.mark.parametrize("part", [gs.qk_clip({"kernel": 0.5}), gs.average_weights()])
def test_a_displacement_before_the_learning_rate_is_pointed_out(part):
    (remark,) = remarks(gs.momentum(), part, RATE)
    assert "takes the direction for the step that will be made; put it behind" in remark


@pytest.mark.parametrize(
    "part", [gs.decay_weights(0.1), gs.momentum(), gs.scale_by_adam(), gs.correct_by_mars()]
)
def test_a_direction_after_the_learning_rate_is_pointed_out(part):
    (remark,) = remarks(RATE, part)
    assert "put it before the learning rate" in remark


def of_kernel(*rules):
    lifted = gs.per_stack(optax.chain(*rules))
    return optax.masked(lifted, {"kernel": True, "bias": False})


def test_rules_stand_where_they_say():
    assert remarks(of_kernel(gs.brake_radius()), RATE, of_kernel(gs.pin_radius())) == ()
    assert remarks(of_kernel(gs.polar_factor(), gs.hyperball(0.1))) == ()
    (remark,) = remarks(of_kernel(gs.brake_radius(), gs.pin_radius()), RATE)
    assert "pin_radius takes the direction for the step that will be made" in remark
    (remark,) = remarks(of_kernel(gs.polar_factor(), gs.hyperball(0.1)), RATE)
    assert remark.startswith("kernel: two learning rates act on it")


def test_two_averages_of_a_leaf_are_pointed_out():
    (remark,) = remarks(gs.muon(0.1), gs.average_weights(), gs.average_tail(5))
    assert "average_weights and average_tail average it" in remark
    groups = optax.partition(
        {"a": optax.chain(RATE, gs.average_weights()), "b": optax.chain(RATE, gs.average_tail(5))},
        {"kernel": "a", "bias": "b"},
    )
    assert remarks(groups) == ()


def test_what_stands_behind_a_shift_is_pointed_out():
    (remark,) = remarks(gs.muon(0.1), gs.ema_nesterov(), gs.average_weights())
    assert "average_weights stands behind ema_nesterov" in remark
    assert remarks(gs.muon(0.1), gs.average_weights(), gs.ema_nesterov()) == ()


def test_a_floor_behind_the_learning_rate_is_pointed_out():
    floor = optax.masked(gs.per_stack(gs.floor_update()), {"kernel": True, "bias": False})
    (remark,) = remarks(RATE, floor)
    assert "floor_update makes a direction of what is a step already" in remark


def test_a_rule_after_the_learning_rate_is_pointed_out_for_its_leaves_alone():
    rule = optax.masked(gs.per_stack(gs.polar_factor()), {"kernel": True, "bias": False})
    tx = optax.chain(RATE, rule)
    (remark,) = gs.describe(tx, PARAMS).remarks
    assert remark.startswith("kernel: polar_factor makes a direction of what is a step already")


def test_the_groups_of_a_partition_have_a_learning_rate_each():
    tx = gs.partition_by_role(
        matrices=optax.chain(gs.momentum(), RATE),
        others=optax.chain(RATE, gs.momentum()),
    )
    (remark,) = gs.describe(tx, PARAMS).remarks
    assert remark.startswith("bias: momentum")
    assert remark in str(gs.describe(tx, PARAMS))


def test_the_learning_rate_is_optaxs():
    for rate in (0.1, optax.constant_schedule(0.1)):
        ours, theirs = gs.scale_by_learning_rate(rate), optax.scale_by_learning_rate(rate)
        one, _ = ours.update(PARAMS, ours.init(PARAMS))
        other, _ = theirs.update(PARAMS, theirs.init(PARAMS))
        np.testing.assert_array_equal(one["bias"], other["bias"])
