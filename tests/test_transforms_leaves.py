"""A None among the updates is nothing to do, for every transformation of a tree."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs

PARAMS = {"frozen": jnp.full((2, 3), 2.0), "trained": jnp.full((2, 3), 3.0)}
GRADS = {"frozen": None, "trained": jnp.full((2, 3), 0.5)}
TRANSFORMS = {
    "momentum": lambda: gs.momentum(0.9, "ema_nesterov_debiased"),
    "heavy_ball": lambda: gs.momentum(0.9, "heavy_ball"),
    "adam": gs.scale_by_adam,
    "ademamix": gs.scale_by_ademamix,
    "mars": gs.correct_by_mars,
    "decay": lambda: gs.decay_weights(0.1),
    "cautious": lambda: gs.decay_weights_cautiously(lambda count: 0.1),
    "rate": lambda: gs.scale_by_learning_rate(0.1),
    "average": gs.average_weights,
    "tail": lambda: gs.average_tail(1),
    "ema_nesterov": gs.ema_nesterov,
    "qk_clip": lambda: gs.qk_clip({"": 1.0}, threshold=1.0),
    "ademamix_recipe": lambda: gs.ademamix(0.1, weight_decay=0.1),
    "muon_recipe": lambda: gs.muon(0.1, weight_decay=0.1, roles={"": "vector"}),
    "mars_recipe": lambda: gs.mars_adamw(0.1, weight_decay=0.1),
}


def run(tx, params, grads):
    tx, state = optax.with_extra_args_support(tx), None
    state = tx.init(params)
    logits = {name: jnp.full((2, 1), 4.0) for name in params}
    for _ in range(2):
        updates, state = tx.update(grads, state, params, max_logits=logits)
    return updates, state


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_none_stays_none_and_its_neighbour_moves_as_if_it_were_alone(name):
    updates, state = run(TRANSFORMS[name](), PARAMS, GRADS)
    assert updates["frozen"] is None
    alone = ({"trained": tree["trained"]} for tree in (PARAMS, GRADS))
    expected, _ = run(TRANSFORMS[name](), *alone)
    np.testing.assert_array_equal(updates["trained"], expected["trained"])
    start = TRANSFORMS[name]().init(PARAMS)
    assert jax.tree.structure(state) == jax.tree.structure(start)


def test_qk_clip_clips_the_weight_that_the_logits_belong_to():
    """By position in the tree the trained leaf would take the frozen one's weights and logits."""
    updates, _ = run(gs.qk_clip({"trained": 1.0}, threshold=1.0), PARAMS, GRADS)
    np.testing.assert_allclose(updates["trained"], 3.5 / 4 - 3.0)


def test_the_average_of_a_weight_without_gradient_is_the_weight():
    tx = gs.average_weights(0.5)
    _, state = run(tx, PARAMS, GRADS)
    averaged = gs.eval_params(state, PARAMS)
    np.testing.assert_allclose(averaged["frozen"], 2.0)
    np.testing.assert_allclose(averaged["trained"], 3.5)


@pytest.mark.parametrize("tx", [gs.average_weights(0.5), gs.average_tail(1), gs.ema_nesterov()])
def test_a_parameter_that_is_none_is_evaluated_as_none(tx):
    params = {"missing": None, "trained": PARAMS["trained"]}
    _, state = run(tx, params, params)
    read = gs.eval_params(state, params)
    assert read["missing"] is None
    assert read["trained"].shape == (2, 3)


def test_what_is_kept_for_a_none_stays_as_it_was():
    tx = gs.momentum(0.5)
    _, state = tx.update(PARAMS, tx.init(PARAMS))
    _, later = tx.update(GRADS, state)
    np.testing.assert_array_equal(later.momentum["frozen"], state.momentum["frozen"])
    assert (later.momentum["trained"] != state.momentum["trained"]).all()
