"""The examples run, and what they claim holds."""

import functools
import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

import gradsmith as gs
from gradsmith.race import Display, Protocol, Race, entry, run_race, write_report

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def custom():
    return load("custom_optimizer")


@pytest.fixture(autouse=True)
def as_users_run_jax():
    """A user's own code adds a bias to a batch without a reshape, and Optax's Adam mixes dtypes."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def test_hand_written_and_made_agree_for_20_steps(custom):
    by_hand, hand_losses = custom.train(custom.custom_optimizer(0.02, constant=0.9))
    made, made_losses = custom.train(custom.smithed_optimizer(0.02, constant=0.9))
    assert hand_losses[-1] < 0.5 * hand_losses[0]
    np.testing.assert_allclose(made_losses, hand_losses, rtol=1e-4)
    # Newton-Schulz amplifies a rounding error about 500 times: 20 steps of 0.02 x 500 x 6e-8.
    for path, leaf in jax.tree_util.tree_leaves_with_path(by_hand):
        np.testing.assert_allclose(made[path[0].key], leaf, atol=2e-5, err_msg=str(path))


def test_the_custom_optimizer_takes_a_schedule_and_a_decay(custom):
    constant, _ = custom.train(custom.custom_optimizer(0.02))
    scheduled, _ = custom.train(custom.custom_optimizer(lambda count: 0.02))
    jax.tree.map(np.testing.assert_array_equal, constant, scheduled)
    solver = custom.custom_optimizer(0.5, weight_decay=0.1)
    params = {"bias": np.float32([2.0])}
    zeros = jax.tree.map(np.zeros_like, params)
    updates, _ = solver.update(zeros, solver.init(params), params)
    np.testing.assert_allclose(updates["bias"], [-0.5 * 0.1 * 2.0], rtol=1e-6)


def test_the_example_trains_with_each(custom, capsys):
    custom.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for line in lines:
        first, last = map(float, line.split("loss")[1].split("->"))
        assert last < 0.5 * first, line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong", "rate", "groups", "sentence"),
    [
        ("muon", "small_layer", 0.02, ["sizes"], "small_layer: second is far from the other"),
        ("muon", "hot_head", 0.02, ["sizes"], "hot_head: head is far from the other layers"),
        ("soap", "frozen_basis", 0.003, ["bases"], "frozen_basis: nearly 0 in all layers"),
        ("patient", "patient_in_16_bits", 0.002, ["shares"], "patient: nearly 0 in all layers"),
    ],
)
def test_a_fault_is_named_in_the_report(right, wrong, rate, groups, sentence, tmp_path):
    stories = load("stories")
    entries = tuple(entry(name, getattr(stories, name)) for name in (right, wrong))
    race = Race(stories.make_task(), entries, (rate,), Protocol(seeds=1))
    watch = functools.partial(gs.watch, readings=groups)
    run_race(race, tmp_path, Display(), watch=watch)
    assert f"<li>{sentence}" in write_report(tmp_path).read_text()
