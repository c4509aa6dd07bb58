"""QK-clip on an attention head written out: what counts is what happens to the logits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradsmith as gs

RNG = np.random.default_rng(0)
X = RNG.standard_normal((7, 8))  # tokens, d
QUERY, KEY = jnp.asarray(RNG.standard_normal((2, 8, 3, 4)), jnp.float32)  # d, heads, head_dim


def logits(query, key):
    q, k = (np.einsum("td,dhc->htc", X, np.asarray(w, np.float64)) for w in (query, key))
    return q @ k.mT / 2.0


def maxima(query=QUERY, key=KEY):
    return jnp.asarray(logits(query, key).max((1, 2))[:, None], jnp.float32)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 0.2])
def test_the_logits_of_a_head_shrink_to_the_threshold_and_no_other_heads(exponent):
    """Golden M12: exactly by `threshold / maximum`, however the two share it."""
    own = np.asarray(maxima())
    threshold = float(np.median(own))
    query = gs.clip_qk(QUERY, maxima(), exponent=exponent, threshold=threshold)
    key = gs.clip_qk(KEY, maxima(), exponent=1 - exponent, threshold=threshold)
    factors = np.minimum(1, threshold / own)
    assert (factors < 1).sum() == 1
    np.testing.assert_allclose(
        logits(query, key), factors[:, None] * logits(QUERY, KEY), rtol=1e-4, atol=1e-5
    )


def test_heads_below_the_threshold_and_negative_logits_change_nothing():
    for most in (maxima(), -maxima(), jnp.zeros((3, 1))):
        np.testing.assert_array_equal(gs.clip_qk(QUERY, most, threshold=1e6), QUERY)


PARAMS = {"block_0": {"attn": {"query": QUERY, "key": KEY, "value": KEY}}, "bias": np.ones(3)}


def test_the_transformation_clips_the_stepped_weights_of_the_named_leaves():
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), PARAMS)
    tx = optax.chain(
        optax.sgd(0.1), gs.qk_clip({"attn/query": 0.5, "attn/key": 0.5}, threshold=2.0)
    )
    grads = jax.tree.map(jnp.ones_like, params)
    most = {"block_0": {"attn": jnp.asarray([[8.0], [1.0], [2.0]])}}
    update = jax.jit(lambda g, s, p, most: tx.update(g, s, p, max_logits=most)[0])
    stepped = optax.apply_updates(params, update(grads, tx.init(params), params, most))
    shrink = np.array([0.5, 1.0, 1.0])[:, None]
    attn = stepped["block_0"]["attn"]
    np.testing.assert_allclose(
        attn["query"], shrink * (np.asarray(QUERY) - 0.1), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(attn["key"], shrink * (np.asarray(KEY) - 0.1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(attn["value"], KEY - 0.1, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(stepped["bias"], 0.9, rtol=1e-6)


def test_scanned_layers_have_a_maximum_each():
    kernel = jnp.ones((2, 8, 3, 4))
    most = jnp.asarray([[8.0, 1.0, 1.0], [1.0, 1.0, 1.0]])[:, None, :, None]
    tx = gs.qk_clip({"query": 1.0}, threshold=2.0)
    params = {"query": kernel}
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, tx.init(params), params, max_logits={"query": most})
    np.testing.assert_allclose(updates["query"][0, :, 0], -0.75)
    assert optax.tree.norm(updates["query"][:, :, 1:]) + optax.tree.norm(updates["query"][1]) == 0


def test_what_is_missing_is_named():
    params = {"query": jnp.ones((8, 3, 4))}
    with pytest.raises(ValueError, match=r"no parameter matches 'keys' of query"):
        gs.qk_clip({"keys": 0.5}).init(params)
    tx = gs.qk_clip({"query": 0.5})
    with pytest.raises(ValueError, match=r"needs the parameters: call update\(grads, state, par"):
        tx.update(params, tx.init(params))
    with pytest.raises(ValueError, match=r"needs the largest logits: .* max_logits="):
        tx.update(params, tx.init(params), params)
    with pytest.raises(ValueError, match="max_logits has nothing for 'query'; it has key"):
        tx.update(params, tx.init(params), params, max_logits={"key": jnp.ones(3)})
    for shape in ((4,), (3, 1, 1, 1), (8, 3, 4, 1)):
        with pytest.raises(ValueError, match=r"for 'query' of \(8, 3, 1\); give one for each head"):
            tx.update(*[{"query": jnp.ones((8, 3, 1))}] * 3, max_logits={"query": jnp.ones(shape)})
    with pytest.raises(ValueError, match="qk_clip needs threshold >= 0"):
        gs.qk_clip({"query": 0.5}, threshold=-1.0)
