"""The text is the one it claims to be, and the decoder is the one it claims to be."""

import hashlib
import lzma
import math
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from gradsmith.race import Entry, Protocol, Race, run_race
from gradsmith.race.examine import random_like
from gradsmith.race.tasks.decoder import Decoder, Mlp, block, rotate
from gradsmith.race.tasks.shakespeare import shakespeare

SMALL = {"depth": 2, "width": 32, "heads": 2, "context": 16, "batch": 4, "validation_windows": 8}


@pytest.fixture(scope="module")
def text():
    file = resources.files("gradsmith.race") / "data" / "shakespeare.txt.xz"
    return lzma.decompress(file.read_bytes())


@pytest.fixture(scope="module")
def task():
    return shakespeare(**SMALL)


@pytest.fixture(scope="module")
def params(task):
    """Parameters as after some training: nothing is zero."""
    start = task.init(jax.random.key(0))
    return jax.tree.map(lambda p, noise: p + 0.1 * noise, start, random_like(start))


def test_the_text_is_the_one_whose_licence_is_given(text):
    digest = "d0f3437a681cb0af30a381422c3a45d5b8c1da69cb1154342f623491c4a82343"
    assert hashlib.sha256(text).hexdigest() == digest
    assert (len(text), len(set(text))) == (5_000_461, 80)
    licences = resources.files("gradsmith.race") / "data" / "LICENSES.md"
    assert digest in licences.read_text(encoding="utf-8")


def test_validation_windows_are_text_that_training_never_draws(text, task):
    alphabet = np.array(sorted(set(text)), np.uint8)
    end = round(0.9 * len(text))
    held_out, train = text[end:], text[:end]
    windows = [bytes(alphabet[window]) for window in np.asarray(task.report)]
    assert len(windows) == 8
    places = [held_out.index(window) for window in windows]
    assert places == sorted(set(places))
    for batch in jax.vmap(task.batch)(jax.random.split(jax.random.key(0), 50)):
        assert batch.shape == (4, 17)
        assert all(bytes(alphabet[window]) in train for window in np.asarray(batch))


def test_before_training_the_loss_is_that_of_knowing_nothing(task):
    loss = task.loss(task.init(jax.random.key(0)), task.report)
    np.testing.assert_allclose(loss, math.log(80), rtol=1e-5)  # a sum in float32


def test_the_names_of_the_parameters_tell_their_roles(task):
    params = jax.eval_shape(task.init, jax.random.key(0))
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree.leaves_with_path(params)
    }
    assert shapes["tokens/embedding"] == (80, 32)
    assert shapes["blocks/1/attention/query/kernel"] == (32, 32)
    assert shapes["blocks/1/mlp/up/kernel"] == (32, 128)
    assert shapes["blocks/1/mlp/down/bias"] == (32,)
    assert shapes["norm/scale"] == (32,)
    assert shapes["head/kernel"] == (32, 80)
    assert len(shapes) == 2 * 14 + 4


def test_projections_and_head_start_at_zero_and_nothing_else_does(task):
    params = task.init(jax.random.key(0))
    zero = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree.leaves_with_path(params)
        if leaf.ndim == 2 and not leaf.any()
    }
    blocks = [
        f"blocks/{i}/{layer}/kernel" for i in range(2) for layer in ("attention/out", "mlp/down")
    ]
    assert zero == {*blocks, "head/kernel"}


def test_a_character_is_predicted_from_those_before_it_only(task):
    model = Decoder(80, 2, 32, lambda rngs: block(32, 2, rngs), nnx.Rngs(0))
    start = nnx.state(model, nnx.Param)
    nnx.update(model, jax.tree.map(jnp.add, start, random_like(start)))  # no projection is zero
    text = task.report[:1, :-1]
    before, after = model(text), model(text.at[0, 10].add(1))
    change = np.abs(before - after).max(axis=(0, 2))
    assert (change[:10] == 0).all()
    assert (change[10:] > 0.01).all()


def test_the_perceptron_squares_its_relu():
    mlp = Mlp(8, nnx.Rngs(0))
    nnx.update(mlp, random_like(nnx.state(mlp, nnx.Param)))
    x = jax.random.normal(jax.random.key(1), (2, 3, 8))
    up, down, inputs = (
        np.asarray(a, np.float64) for a in (mlp.up.kernel[...], mlp.down.kernel[...], x)
    )
    hidden = np.maximum(inputs @ up + np.asarray(mlp.up.bias[...]), 0) ** 2
    np.testing.assert_allclose(mlp(x), hidden @ down + np.asarray(mlp.down.bias[...]), rtol=1e-4)


def test_logits_are_capped(task, params):
    huge = jax.tree.map(lambda p: 1000 * p, params)
    assert float(task.loss(huge, task.report)) < 2 * 15 + math.log(80)


def test_the_size_of_queries_and_keys_does_not_matter(task, params):
    scaled = jax.tree.map_with_path(
        lambda path, p: 7 * p if {"query", "key"} & {str(k.key) for k in path} else p, params
    )
    loss, same = task.loss(params, task.report), task.loss(scaled, task.report)
    np.testing.assert_allclose(loss, same, rtol=1e-4)


def test_rotation_keeps_norms_and_depends_on_distance_alone():
    x, y = jax.random.normal(jax.random.key(0), (2, 8))
    rows = lambda v: rotate(jnp.broadcast_to(v, (1, 12, 1, 8)))[0, :, 0]
    products = np.asarray(rows(x) @ rows(y).T)
    np.testing.assert_allclose(jnp.linalg.norm(rows(x), axis=-1), jnp.linalg.norm(x), rtol=1e-5)
    for distance in range(-11, 12):
        diagonal = np.diagonal(products, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-4, atol=1e-5)
    assert np.ptp(products) > 0.1


def test_half_of_the_planes_do_not_turn():
    x = jax.random.normal(jax.random.key(0), (1, 50, 1, 8))
    still = np.isclose(rotate(x), x, rtol=1e-6).all(axis=(0, 1, 2))
    assert still.tolist() == [False, False, True, True, False, False, True, True]


def test_heads_of_an_odd_size_are_refused():
    with pytest.raises(ValueError, match="width 24 and 4 heads make 6"):
        shakespeare(width=24, heads=4)


def test_a_little_training_learns_more_than_the_frequencies(tmp_path, standard_promotion):
    small = shakespeare(**SMALL, steps=60)
    _, record = run_race(
        Race(small, (Entry("adam", optax.adam),), (0.02,), Protocol(seeds=1)), tmp_path
    )
    assert record.validation_loss < 3.2  # frequencies of characters alone give about 3.3
