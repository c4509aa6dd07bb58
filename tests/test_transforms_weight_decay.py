import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs

WEIGHTS = np.array([2.0, -2.0, 2.0, -2.0, 3.0])
UPDATES = np.array([1.0, 1.0, -1.0, -1.0, 0.0])


def decayed(tx, updates=UPDATES, weights=WEIGHTS, steps=1):
    state = tx.init(jnp.asarray(weights))
    for _ in range(steps):
        out, state = tx.update(jnp.asarray(updates), state, jnp.asarray(weights))
    return np.asarray(out)


def test_cautious_decay_is_full_where_it_helps_and_none_where_it_hurts():
    """Golden M20, and the paper's mask `u w >= 0`: a weight without an update decays."""
    cautious, full = gs.decay_weights_cautiously(0.5), gs.decay_weights(0.5)
    np.testing.assert_array_equal(decayed(cautious), [2.0, 1.0, -1.0, -2.0, 1.5])
    np.testing.assert_array_equal(
        decayed(cautious, updates=WEIGHTS), decayed(full, updates=WEIGHTS)
    )
    np.testing.assert_array_equal(decayed(cautious, updates=-WEIGHTS), -WEIGHTS)


@pytest.mark.parametrize("decay", [gs.decay_weights, gs.decay_weights_cautiously])
def test_a_schedule_of_the_decay_counts_the_steps(decay):
    halving = lambda count: 0.4 * 0.5**count
    for steps in (1, 2, 3):
        expected = UPDATES * 0 + WEIGHTS * 0.4 * 0.5 ** (steps - 1)
        out = decayed(decay(halving), updates=0 * UPDATES, steps=steps)
        np.testing.assert_allclose(out, expected, rtol=1e-6)


def test_cautious_decay_of_complex_weights_asks_for_their_real_inner_product():
    tx = gs.decay_weights_cautiously(0.5)
    weights = jnp.asarray([2j, 2j])
    out, _ = tx.update(jnp.asarray([1j, -1j]), tx.init(weights), weights)
    np.testing.assert_allclose(out, [2j, -1j])


@pytest.mark.parametrize("decay", [gs.decay_weights, gs.decay_weights_cautiously])
def test_a_decay_may_be_traced_and_stacked_in_any_dtype(decay):
    weights = {"w": jnp.ones((2, 3), jnp.bfloat16)}

    @jax.jit
    def step(rate, weights):
        tx = decay(rate)
        return tx.update(weights, tx.init(weights), weights)[0]

    step(0.1, weights)
    assert step(0.5, weights)["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(step(0.5, weights)["w"].astype(jnp.float32), 1.5)
    assert step._cache_size() == 1


def test_a_scheduled_decay_goes_through_scan_and_masks():
    tx = optax.masked(gs.decay_weights(lambda count: 0.1), {"w": True, "b": False})
    weights = {"w": jnp.ones(2), "b": jnp.ones(2)}

    def step(state, _):
        updates, state = tx.update(weights, state, weights)
        return state, updates

    _, updates = jax.lax.scan(step, tx.init(weights), length=2)
    np.testing.assert_allclose(updates["w"], 1.1)
    np.testing.assert_allclose(updates["b"], 1.0)


@pytest.mark.parametrize(
    ("decay", "name"),
    [
        (gs.decay_weights, "decay_weights"),
        (gs.decay_weights_cautiously, "decay_weights_cautiously"),
    ],
)
def test_a_negative_decay_is_refused_and_a_missing_params_names_the_call(decay, name):
    with pytest.raises(ValueError, match=f"{name} needs rate >= 0, got -1"):
        decay(-1.0)
    grads = jnp.ones(2)
    with pytest.raises(ValueError, match=r"needs the parameters: call update\(grads, state"):
        decay(0.1).update(grads, optax.EmptyState())
    assert decay(0.0).update(grads, optax.EmptyState())[0] is grads


@pytest.mark.parametrize("decay", [gs.decay_weights, gs.decay_weights_cautiously])
@pytest.mark.parametrize(
    "mask",
    [
        {"block": {"w": True, "b": False}, "head": True},
        lambda params: {"block": jax.tree.map(lambda x: x.ndim > 1, params["block"]), "head": True},
    ],
    ids=["tree", "function"],
)
def test_a_mask_says_what_decays(decay, mask):
    weights = {"block": {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}, "head": [jnp.ones(2)]}
    tx = decay(lambda count: 0.5, mask)
    updates, _ = tx.update(weights, tx.init(weights), weights)
    np.testing.assert_array_equal(updates["block"]["w"], 1.5)
    np.testing.assert_array_equal(updates["block"]["b"], 1.0)
    np.testing.assert_array_equal(updates["head"][0], 1.5)


def test_a_mask_that_is_one_bool_or_an_array_is_refused():
    """It is what `optax.inject_hyperparams` makes of a function that it calls with a count."""
    with pytest.raises(TypeError, match="For all weights: lambda params: True; for none, leave"):
        gs.decay_weights(0.1, mask=False)
    with pytest.raises(TypeError, match=r"static_args=\('mask',\)"):
        gs.decay_weights(0.1, mask=jnp.asarray(True))


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        ({"block": {"w": True, "bais": False}, "head": True}, "names 'block/bais', where the tree"),
        ({"block": True}, "says nothing of 'head'; there are 'block/"),
        (lambda params: {"block": True}, "says nothing of 'head'"),
    ],
    ids=["another key", "a missing key", "function"],
)
@pytest.mark.parametrize("make", ["decay_weights", "muon"])
def test_a_mask_that_does_not_fit_is_refused_at_init_with_the_path(make, mask, says):
    weights = {"block": {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}, "head": jnp.ones((2, 2))}
    if make == "muon":
        tx = gs.muon(0.1, weight_decay=0.1, weight_decay_mask=mask)
    else:
        tx = gs.decay_weights(0.1, mask)
    with pytest.raises(ValueError, match="decay_weights: the mask " + says):
        tx.init(weights)
