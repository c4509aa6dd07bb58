"""Shards are read as they are written, and the model is the benchmark's."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gradsmith.race import Display, Entry, Protocol, Race, run_race
from gradsmith.race.tasks.shards import count, in_order, tokens
from gradsmith.race.tasks.track3 import initial, logits, track3

SMALL = {
    "depth": 1,
    "width": 128,
    "vocabulary": 50,
    "context": 8,
    "batch": 4,
    "at_once": 2,
    "steps": 4,
    "validation_tokens": 48,
}


def write(path, numbers, magic=20240520, version=1, claimed=None):
    """A shard, from the description of the format."""
    header = [magic, version, len(numbers) if claimed is None else claimed, *[0] * 253]
    data = b"".join(number.to_bytes(4, "little") for number in header)
    path.write_bytes(data + b"".join(int(n).to_bytes(2, "little") for n in numbers))


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, length in (("train_000001", 100), ("train_000002", 70), ("val_000000", 97)):
        write(
            tmp_path / f"fineweb_{name}.bin", rng.integers(0, 5, length)
        )  # few tokens, learned soon
    return tmp_path


# JAX's own attention computes in bfloat16 under standard promotion only: hence the fixture.


def made(folder, **more):
    return track3(**{"data": str(folder), **SMALL, **more})


def some_parameters(task):
    """As after some training: no projection is zero."""
    start = task.init(jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(start))))
    return jax.tree.map(
        lambda p: p + (0.1 * jax.random.normal(next(keys), p.shape)).astype(p.dtype), start
    )


def test_a_shard_reads_as_it_was_written(tmp_path):
    numbers = [50256, 0, 65535, 258]
    write(tmp_path / "one.bin", numbers)
    assert tokens(tmp_path / "one.bin").tolist() == numbers


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"magic": 20240801}, "should begin with 20240520 and version 1, and begins with"),
        ({"version": 2}, "should begin with"),
        ({"claimed": 7}, "should hold 7 tokens and has 1,032 bytes, not 1,038"),
    ],
)
def test_a_file_that_is_no_whole_shard_is_refused(tmp_path, fields, message):
    write(tmp_path / "one.bin", [1, 2, 3, 4], **fields)
    with pytest.raises(ValueError, match=message):
        tokens(tmp_path / "one.bin")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "one.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"begins with \[\]"):
        tokens(tmp_path / "one.bin")


def test_pieces_follow_each_other_and_leave_the_rest_of_a_shard(tmp_path):
    paths = [tmp_path / "a.bin", tmp_path / "b.bin"]
    write(paths[0], range(24))
    write(paths[1], range(100, 122))
    pieces = [piece.tolist() for piece in in_order(paths, 10)]
    firsts = [0, 10, 100, 110]  # the benchmark goes on to the next shard at 20 and at 120
    assert pieces == [list(range(first, first + 11)) for first in firsts]
    assert count(paths, 10) == 4


def test_without_shards_the_task_says_where_they_come_from(tmp_path):
    with pytest.raises(ValueError, match=r"no FineWeb shards .* give --task-arg data=FOLDER"):
        made(tmp_path)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"steps": 6}, "enough for 5 steps, not for 6: .* --task-arg steps=5"),
        ({"validation_tokens": 64}, "has 97 tokens, and selection and report take 129"),
        ({"at_once": 3}, "a batch that is a multiple of at_once 3, got 4"),
        ({"width": 96}, "a width that is a multiple of 128, got 96"),
        ({"validation_tokens": 40}, "validation_tokens in multiples of 16, got 40"),
    ],
)
def test_what_does_not_fit_is_refused(folder, more, message):
    with pytest.raises(ValueError, match=message):
        made(folder, **more)


def test_report_and_selection_are_the_first_tokens_of_the_validation_shard(folder):
    task = made(folder)
    whole = tokens(folder / "fineweb_val_000000.bin").tolist()
    assert task.report.tolist() == whole[:49]
    assert task.selection.tolist() == whole[48:97]


def test_every_seed_reads_the_training_shards_in_order(folder):
    task = made(folder)
    paths = sorted(folder.glob("fineweb_train_*.bin"))
    for seed in (-1, 0):
        read = list(itertools.islice(task.batch.after(seed, 0), 4))
        wanted = list(itertools.islice(in_order(paths, 32), 4))
        assert all(np.array_equal(a, b) for a, b in zip(read, wanted, strict=True))


def test_before_training_the_loss_is_that_of_knowing_nothing(folder, standard_promotion):
    task = made(folder)
    loss = task.loss(task.init(jax.random.key(0)), task.report)
    np.testing.assert_allclose(loss, math.log(50), rtol=1e-5)


def test_how_many_are_at_once_changes_rounding_alone(folder, standard_promotion):
    parts, whole = made(folder), made(folder, at_once=1)
    params = some_parameters(parts)
    one, other = (jax.grad(task.loss)(params, task.report) for task in (parts, whole))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        a, b = (np.asarray(x, np.float32) for x in (a, b))
        np.testing.assert_allclose(a, b, atol=0.03 * np.abs(b).max())  # sums in bfloat16


def test_the_model_has_the_parameters_of_the_benchmark():
    shapes = jax.eval_shape(
        lambda key: initial(key, depth=12, width=768, vocabulary=50304), jax.random.key(0)
    )
    block = 4 * (768 * 768 + 768) + 2 * 4 * 768 * 768 + 5 * 768 + 2 * 768
    wanted = 12 * block + 2 * 50304 * 768 + 50304 + 2 * 768
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == wanted == 162_354_816
    assert shapes["tokens"]["embedding"].dtype == jnp.bfloat16
    others = {leaf.dtype for leaf in jax.tree.leaves({**shapes, "tokens": {}})}
    assert others == {jnp.dtype("float32")}


def test_the_first_parameters_are_those_of_the_benchmark():
    params = initial(jax.random.key(0), depth=1, width=256, vocabulary=500)
    block = params["blocks"][0]
    assert np.std(block["up"]["kernel"]) == pytest.approx(math.sqrt(0.33 / 256), rel=0.02)
    assert np.std(np.asarray(params["tokens"]["embedding"], np.float32)) == pytest.approx(
        1, rel=0.02
    )
    zeros = (block["out"], block["down"], params["head"])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(zeros))


def test_logits_are_those_of_the_description(folder):
    """In float32 against NumPy in float64, from the benchmark's description."""
    params = jax.tree.map(lambda p: p.astype(jnp.float32), some_parameters(made(folder)))
    text = made(folder).report[:16].reshape(2, 8)
    with jax.default_matmul_precision("float32"):
        out = np.asarray(logits(params, text))
    np.testing.assert_allclose(out, by_numpy(params, np.asarray(text)), rtol=2e-3, atol=2e-3)


def by_numpy(params, text):
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    unit = lambda x: x / np.sqrt((x**2).mean(-1, keepdims=True))
    norm = lambda layer, x: unit(x) * layer["scale"]
    linear = lambda layer, x: x @ layer["kernel"] + layer["bias"]

    def turned(x):  # (t, 128): planes (i, i + 64), of which the first 32 turn
        out = np.empty_like(x)
        for position, i in np.ndindex(len(x), 64):
            angle = position * 1024.0 ** (-i / 31) if i < 32 else 0.0
            a, b = x[position, i], x[position, i + 64]
            out[position, i] = a * np.cos(angle) + b * np.sin(angle)
            out[position, i + 64] = b * np.cos(angle) - a * np.sin(angle)
        return out

    out = []
    for row in text:
        x = norm(p["tokens_norm"], p["tokens"]["embedding"][row])
        for block in p["blocks"]:
            y = norm(block["attention_norm"], x)
            q, k = (turned(unit(linear(block[name], y))) for name in ("query", "key"))
            scores = np.where(np.tril(np.ones((8, 8), bool)), 0.12 * q @ k.T, -np.inf)
            weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
            x = x + linear(block["out"], weights @ linear(block["value"], y))
            hidden = np.maximum(linear(block["up"], norm(block["mlp_norm"], x)), 0) ** 2
            x = x + linear(block["down"], hidden)
        last = linear(p["head"], norm(p["norm"], x))
        out.append(15 * last / np.sqrt(last**2 + 225))
    return np.stack(out)


def test_the_task_can_be_raced(folder, tmp_path_factory, standard_promotion):
    protocol = Protocol(seeds=1, extensions=0)
    race = Race(made(folder), (Entry("sgd", optax.sgd),), (0.1,), protocol)
    *_, record = run_race(race, tmp_path_factory.mktemp("race"), Display())
    assert record.curve.step == [0, 1, 2, 3, 4]
    assert record.validation_loss < record.curve.validation_loss[0]
