"""What holds for every task, and that each is the problem that it claims to be."""

import dataclasses
import functools
import hashlib
import lzma
import math
from importlib import resources
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import gradsmith
from gradsmith.race import TASKS, Entry, Protocol, Race, run_race, task_maker
from gradsmith.race.examine import random_like
from gradsmith.race.tasks import fashion, tabular
from gradsmith.race.tasks.autoencoder import autoencoder
from gradsmith.race.tasks.decoder import Attention
from gradsmith.race.tasks.experts import Experts, experts
from gradsmith.race.tasks.fashion_patches import PatchTransformer, cut
from gradsmith.race.tasks.functional import cross_entropy
from gradsmith.race.tasks.linear_attention import GatedMemory, decaying_sum, linear_attention
from gradsmith.race.tasks.lora import frozen, in_capitals
from gradsmith.race.tasks.shakespeare import shakespeare
from gradsmith.race.tasks.text import plays

FOLDER = Path(gradsmith.__file__).parent / "race" / "tasks"
OF_TEXT = {"context": 16, "batch": 4, "validation_windows": 8}
SHARES = [0.1876, 0.5075, 0.1299, 0.0239, 0.0693, 0.0271, 0.0547]  # of the classes of the table
FIRST = [[2.31470, -0.317066, -1.97089], [1.07582, -2.11606, -0.60994]]  # of its measures
SMALL = {
    "shakespeare": OF_TEXT,
    "shakespeare_1m": OF_TEXT,
    "shakespeare_5m": OF_TEXT,
    "fashion_conv": {"width": 4, "batch": 8},
    "fashion_patches": {"depth": 1, "width": 16, "batch": 8},
    "autoencoder": {"width": 16, "batch": 8},
    "tabular": {"width": 16, "batch": 8},
    "experts": {"depth": 1, "width": 32, **OF_TEXT},
    "linear_attention": {"depth": 1, "width": 32, **OF_TEXT},
    "lora": OF_TEXT,
}
KNOWS_NOTHING = {
    "fashion_conv": math.log(10),
    "fashion_patches": math.log(10),
    "tabular": math.log(7),
    "experts": math.log(80),
    "linear_attention": math.log(80),
}


@functools.cache
def made(name):
    """The task in a small size, its functions compiled: op by op they take many times as long."""
    task = task_maker(name)(**SMALL[name])
    compiled = {part: jax.jit(getattr(task, part)) for part in ("init", "loss", "batch")}
    return dataclasses.replace(task, **compiled)


def parameters(task):
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree.leaves_with_path(shapes)
    }


def normal(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


# Every task


def test_every_task_is_tested_here():
    assert {*SMALL, "track3"} == TASKS.keys()  # which has a file of its own


def test_a_task_is_no_longer_than_an_appendix():
    long = {p.name: n for p in FOLDER.glob("*.py") if (n := len(p.read_text().splitlines())) > 200}
    assert long == {}


@pytest.mark.parametrize("name", SMALL)
def test_a_task_has_its_name_three_splits_and_a_target_below_the_start(name):
    task = made(name)
    assert task.name == name
    start = task.init(jax.random.key(0))
    assert all(
        task.target < task.loss(start, d) <= task.bound for d in (task.selection, task.report)
    )
    later = jax.tree.map(lambda p, noise: p + 0.1 * noise, start, random_like(start))
    splits = (task.batch(jax.random.key(1)), task.selection, task.report)
    assert len({float(task.loss(later, data)) for data in splits}) == 3


@pytest.mark.parametrize("name", SMALL)
def test_the_key_decides_start_and_batches(name):
    task = made(name)
    one, same, other = (jax.tree.leaves(task.batch(jax.random.key(k))) for k in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", SMALL)
def test_muon_knows_the_role_of_every_leaf(name):
    task = made(name)
    stack = gradsmith.MatrixAxes(batch_axis=0)
    muon = gradsmith.muon(0.1, roles=dict.fromkeys(task.stacked, stack))
    shown = gradsmith.describe(muon, jax.eval_shape(task.init, jax.random.key(0)))
    assert "matrix" in {leaf.role for leaf in shown.leaves}


@pytest.mark.parametrize("name", KNOWS_NOTHING)
def test_before_training_a_classifier_knows_nothing(name):
    task = made(name)
    loss = task.loss(task.init(jax.random.key(0)), task.report)
    np.testing.assert_allclose(loss, KNOWS_NOTHING[name], rtol=1e-5)  # a sum in float32


@pytest.mark.parametrize(
    ("name", "millions"), [("shakespeare", 0.21), ("shakespeare_1m", 1.0), ("shakespeare_5m", 4.8)]
)
def test_the_decoders_have_the_sizes_of_their_names(name, millions):
    count = sum(math.prod(shape) for shape in parameters(task_maker(name)()).values())
    np.testing.assert_allclose(count / 1e6, millions, atol=0.05)


@pytest.mark.parametrize("name", ["fashion_conv", "fashion_patches", "tabular", "autoencoder"])
def test_a_little_training_helps(name, tmp_path, standard_promotion):
    task = task_maker(name)(**SMALL[name], steps=40)
    entry = Entry("adam", optax.adam)
    _, record = run_race(Race(task, (entry,), (0.01,), Protocol(seeds=1)), tmp_path)
    start, *_, end = record.curve.validation_loss
    assert end < 0.97 * start


# Garments


def test_the_garments_are_those_whose_licence_is_given():
    file = resources.files("gradsmith.race") / "data" / "fashion_mnist_14x14.npz.xz"
    digest = hashlib.sha256(lzma.decompress(file.read_bytes())).hexdigest()
    licences = resources.files("gradsmith.race") / "data" / "LICENSES.md"
    assert digest in licences.read_text(encoding="utf-8")


def test_the_splits_of_the_garments_are_apart_and_hold_all_kinds():
    splits = fashion.garments()
    assert [len(split.kinds) for split in splits] == [9000, 1000, 2000]
    images = [{image.tobytes() for image in np.asarray(split.images)} for split in splits]
    assert [
        len(own & other)
        for own, other in ((images[0], images[1]), (images[0], images[2]), (images[1], images[2]))
    ] == [0, 0, 0]
    for split in splits:
        shares = np.bincount(split.kinds, minlength=10) / len(split.kinds)
        assert (shares == 0.1).all()


def test_a_batch_keeps_images_with_their_kinds():
    train, _, _ = fashion.garments()
    kind_of = {image.tobytes(): kind for image, kind in zip(*map(np.asarray, train), strict=True)}
    batch = fashion.drawing(train, 64)(jax.random.key(0))
    assert [kind_of[np.asarray(image).tobytes()] for image in batch.images] == batch.kinds.tolist()


def test_patches_are_squares_of_the_image():
    images = normal(3, 14, 14)
    patches = cut(images)
    for row, column in ((0, 0), (2, 5), (6, 6)):
        square = images[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        np.testing.assert_array_equal(patches[:, 7 * row + column], square.reshape(3, 4))


def test_the_places_of_patches_are_told_by_the_embedding_alone():
    attention = Attention(16, 2, nnx.Rngs(0), ordered=False)
    nnx.update(attention, random_like(nnx.state(attention, nnx.Param)))
    x, order = normal(2, 7, 16), np.array([3, 1, 0, 6, 5, 2, 4])
    np.testing.assert_allclose(attention(x)[:, order], attention(x[:, order]), rtol=1e-3, atol=1e-5)
    model = PatchTransformer(1, 16, 2, nnx.Rngs(0))
    nnx.update(model, random_like(nnx.state(model, nnx.Param)))
    images = normal(2, 14, 14)
    assert abs(model(images) - model(images[:, ::-1])).max() > 0.01


# The autoencoder


def test_the_autoencoder_is_narrow_in_the_middle_and_ill_conditioned():
    shapes = parameters(autoencoder())
    widths = [shapes[f"layers/{i}/kernel"][1] for i in range(8)]
    assert widths == [128, 64, 32, 8, 32, 64, 128, 196]
    pixels = np.asarray(fashion.garments()[0].images).reshape(-1, 196) / 255
    values = np.linalg.eigvalsh(np.cov(pixels.T))
    assert values[-1] / values[values > 0][0] > 1e4


def test_the_code_and_the_output_are_linear_and_the_rest_is_between_zero_and_one():
    task = made("autoencoder")
    params = task.init(jax.random.key(0))
    batch = task.batch(jax.random.key(1))
    pixels = np.asarray(batch.images, np.float64).reshape(-1, 196) / 255
    x = pixels
    for number in range(8):
        layer = params["layers"][number]
        x = x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"])
        x = x if number in (3, 7) else 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(task.loss(params, batch), np.mean((x - pixels) ** 2), rtol=1e-5)


# The table


def test_the_table_is_the_same_everywhere():
    table = tabular.table()
    shares = np.bincount(table.label, minlength=7) / len(table.label)
    np.testing.assert_allclose(shares, SHARES, atol=1e-3)  # ties may fall otherwise elsewhere
    np.testing.assert_allclose(table.measures[:2, :3], FIRST, rtol=1e-4)
    assert (len(set(table.area.tolist())), len(set(table.soil.tolist()))) == (4, 40)


# Experts


def test_experts_stand_in_stacks():
    shapes = parameters(experts())
    assert shapes["blocks/0/mlp/experts/up"] == (4, 64, 128)
    assert shapes["blocks/0/mlp/experts/down"] == (4, 128, 64)
    assert shapes["blocks/0/mlp/router/kernel"] == (64, 4)


def test_each_position_is_worked_on_by_its_two_best_experts():
    layer = Experts(6, 4, nnx.Rngs(0))
    nnx.update(layer, random_like(nnx.state(layer, nnx.Param)))
    x = normal(2, 5, 6)
    up, down = (np.asarray(a[...], np.float64) for a in (layer.experts.up, layer.experts.down))
    router = np.asarray(layer.router.kernel[...], np.float64)
    out = np.asarray(layer(x))
    for b, t in np.ndindex(2, 5):
        position = np.asarray(x[b, t], np.float64)
        scores = position @ router
        best = np.argsort(scores)[-2:]
        shares = np.exp(scores[best]) / np.exp(scores[best]).sum()
        said = [np.maximum(position @ up[e], 0) ** 2 @ down[e] for e in best]
        np.testing.assert_allclose(out[b, t], shares @ said, rtol=1e-4)


def test_fewer_experts_than_work_are_refused():
    with pytest.raises(ValueError, match="count >= 2, got 1"):
        experts(count=1)


# Linear attention


def test_linear_attention_is_the_recurrence_of_a_decaying_state():
    query, key = normal(2, 9, 3, 4, seed=1), normal(2, 9, 3, 4, seed=2)
    value, decay = normal(2, 9, 3, 5, seed=3), jax.nn.log_sigmoid(normal(2, 9, 3, seed=4))
    out = decaying_sum(query, key, value, decay)
    q, k, v, a = (np.asarray(x, np.float64) for x in (query, key, value, np.exp(decay)))
    for b, h in np.ndindex(2, 3):
        state = np.zeros((4, 5))
        for t in range(9):
            state = a[b, t, h] * state + np.outer(k[b, t, h], v[b, t, h])
            np.testing.assert_allclose(out[b, t, h], state.T @ q[b, t, h] / 4, rtol=1e-4, atol=1e-5)


def test_heads_forget_at_different_speeds():
    layer = GatedMemory(8, 4, nnx.Rngs(0))
    kept = jax.nn.sigmoid(jnp.linspace(1.0, 5.0, 4))
    np.testing.assert_allclose(np.exp(layer.log_decay(jnp.zeros((1, 1, 8))))[0, 0], kept, rtol=1e-6)


def test_the_state_holds_what_was_written_before_only():
    layer = GatedMemory(8, 2, nnx.Rngs(0))
    nnx.update(layer, random_like(nnx.state(layer, nnx.Param)))
    x = normal(1, 9, 8)
    change = abs(layer(x) - layer(x.at[0, 5].add(1.0))).max(axis=(0, 2))
    assert (change[:5] == 0).all()
    assert (change[5:] > 1e-3).all()


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="divide width 64, got 5"):
        linear_attention(heads=5)


# Adapters


def test_without_adapters_the_decoder_is_the_one_that_was_trained():
    task, whole_loss = made("lora"), jax.jit(shakespeare(context=16, batch=4).loss)
    assert whole_loss(frozen(), made("shakespeare").report) < 2.2
    params = task.init(jax.random.key(0))
    np.testing.assert_allclose(
        task.loss(params, task.report), whole_loss(frozen(), task.report), rtol=1e-5
    )


def test_adapters_add_twice_their_product_to_the_matrices_of_the_blocks():
    task, whole_loss = made("lora"), jax.jit(shakespeare(context=16, batch=4).loss)
    adapters = random_like(task.init(jax.random.key(0)))
    weights = jax.tree.map(np.asarray, frozen())
    for path, adapter in adapters.items():
        *parents, leaf = (int(part) if part.isdecimal() else part for part in path.split("/"))
        node = weights["blocks"]
        for parent in parents:
            node = node[parent]
        node[leaf] = node[leaf] + 2 * np.asarray(adapter["lora_a"]) @ np.asarray(adapter["lora_b"])
    assert len(adapters) == 4 * 6
    np.testing.assert_allclose(
        task.loss(adapters, task.report), whole_loss(weights, task.report), rtol=1e-4
    )


def test_the_text_of_the_adapters_is_in_capitals():
    text, alphabet = plays()
    capitals = in_capitals(text, alphabet)
    letters = np.frombuffer(alphabet, np.uint8)
    assert bytes(letters[capitals[:2000]]) == bytes(letters[text[:2000]]).upper()


# Their parts


def test_cross_entropy_is_the_mean_surprise():
    logits, labels = normal(2, 3, 5), jnp.array([[0, 1, 4], [2, 2, 3]])
    p = np.exp(np.asarray(logits, np.float64))
    p /= p.sum(axis=-1, keepdims=True)
    surprise = [-np.log(p[i, j, labels[i, j]]) for i, j in np.ndindex(2, 3)]
    np.testing.assert_allclose(cross_entropy(logits, labels), np.mean(surprise), rtol=1e-5)
