"""A run is SGD as on paper, compiled once, the same for everyone, and can be taken up anywhere."""

import dataclasses
import functools
import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from race_helpers import CENTRE, SGD, KillAfter, Killed, Remarks, factors, parabola, race, single

from gradsmith.race import Display, Entry, Protocol, Race, run_race
from gradsmith.race.folder import Folder
from gradsmith.race.records import read_records


def outcome(records):
    """All that has to be the same in every repetition."""
    return [dataclasses.replace(record, timing={}) for record in records]


def only_record(tmp_path, rate, **task):
    return run_race(single(SGD, rate, **task), tmp_path)[-1]


def test_a_run_is_sgd_with_the_schedule_of_the_race(tmp_path):
    record = only_record(tmp_path, 0.1, steps=40)
    distance = np.concatenate([[1.0], np.cumprod(factors(0.1, 40))])
    losses = np.sum(CENTRE**2) * distance**2
    assert record.curve.step == list(range(0, 41, 2))
    np.testing.assert_allclose(record.curve.validation_loss, losses[::2], rtol=1e-3, atol=1e-12)
    training = [(losses[i] + losses[i + 1]) / 2 for i in range(0, 40, 2)]  # before each update
    assert record.curve.training_loss[0] is None
    np.testing.assert_allclose(record.curve.training_loss[1:], training, rtol=1e-3, atol=1e-12)
    assert record.validation_loss == record.curve.validation_loss[-1]
    assert record.steps_to_target == next(i for i in range(0, 41, 2) if losses[i] <= 0.01)
    assert record.diverged_at is None


def test_tuning_is_judged_on_the_selection_data_and_the_report_on_its_own(tmp_path):
    asked = single(SGD, 1e-9)  # stays at zero
    splits = {"selection": jnp.full(3, 2.0), "report": jnp.full(3, 3.0)}
    asked = dataclasses.replace(asked, task=dataclasses.replace(asked.task, **splits))
    tuned, reported = run_race(asked, tmp_path)
    assert tuned.validation_loss == pytest.approx(3 * 2.0**2, rel=1e-5)
    assert reported.validation_loss == pytest.approx(3 * 3.0**2, rel=1e-5)


def test_settings_other_than_the_rate_are_tuned(tmp_path):
    def build(lr, power):
        return optax.sgd(lr * power)

    protocol = Protocol(seeds=1, extensions=0)
    asked = Race(parabola(), (Entry("it", build, {"power": [0.1, 1.0]}),), (0.1,), protocol)
    *tuning, best = run_race(asked, tmp_path)
    assert [one.settings["power"] for one in tuning] == [0.1, 1.0]
    assert best.settings == {"learning_rate": 0.1, "power": 1.0}


def test_an_entry_may_bring_its_schedule(tmp_path):
    constant = Entry("it", optax.sgd, schedule=lambda step, steps: jnp.ones_like(step, float))
    _, record = run_race(single(constant, steps=10), tmp_path)
    expected = np.sum(CENTRE**2) * 0.8 ** (2 * np.arange(11))
    np.testing.assert_allclose(record.curve.validation_loss, expected, rtol=1e-4)


def test_the_protocol_is_in_the_folder_before_anything_runs(tmp_path):
    with pytest.raises(Killed):
        run_race(ODD, tmp_path, KillAfter(1))
    config = json.loads((tmp_path / "config.json").read_text())["config"]
    assert config["protocol"]["seeds"] == 1
    assert config["entries"]["odd"]["space"] == {"learning_rate": [0.01, 0.1]}
    assert not (tmp_path / "records.jsonl").exists()


def test_a_target_that_is_not_reached_is_no_step(tmp_path):
    assert only_record(tmp_path, 0.001).steps_to_target is None


def test_fewer_steps_than_points_of_a_curve_are_a_point_each(tmp_path):
    assert only_record(tmp_path, 0.1, steps=3).curve.step == [0, 1, 2, 3]


@pytest.mark.parametrize(("rate", "bound"), [(30.0, 1000.0), (30.0, float("inf")), (0.1, 1.0)])
def test_a_diverged_run_ends_at_the_step_that_diverged(tmp_path, rate, bound):
    record = only_record(tmp_path, rate, steps=100, bound=bound)
    with np.errstate(over="ignore"):
        distance = np.concatenate([[1.0], np.cumprod(factors(rate, 100))])[:100]
        losses = (np.sum(CENTRE**2) * np.square(distance)).astype(np.float32)
    bound = min(bound, np.finfo(np.float32).max)
    updates = int(np.argmax(~(losses <= bound)))  # done when the loss is out of bounds
    validated = (
        updates > 0 and updates % 5 == 0
    )  # 20 points of 100 steps; else the next step sees it
    expected = updates if validated else updates + 1
    assert record.diverged_at == expected
    assert record.outcome() == f"diverged at step {expected}"
    assert record.validation_loss is None
    assert record.curve.step[-1] == expected
    assert len(record.curve.step) == len(record.curve.validation_loss)


def test_a_last_update_that_spoils_everything_is_a_divergence(tmp_path):
    def build(lr):  # the schedule's last and smallest rate makes the parameters infinite
        return optax.stateless(
            lambda u, p: jax.tree.map(lambda x: -x * jnp.where(lr < 0.01 / 15, jnp.inf, lr), u)
        )

    (record,) = run_race(single(Entry("it", build), 0.01), tmp_path)
    assert record.diverged_at == 20
    assert record.curve.training_loss[-1] is not None
    assert record.curve.validation_loss[-1] is None


def test_all_entries_see_the_same_parameters_and_batches_which_depend_on_the_seed(tmp_path):
    records = run_race(race("a", "b", rates=(0.1,), seeds=3, noise=0.1), tmp_path)
    curves = {(record.entry, record.seed): record.curve for record in records}
    for seed in (-1, 0, 1, 2):
        assert curves["a", seed] == curves["b", seed]
    assert len({curve.validation_loss[0] for curve in curves.values()}) == 4
    assert len({curve.training_loss[1] for curve in curves.values()}) == 4


def test_batches_differ_from_step_to_step(tmp_path):
    record = only_record(tmp_path, 1e-9, steps=5, noise=1.0)  # at rest: only batches change
    assert len(set(record.curve.training_loss[1:])) == 5


def test_more_rates_and_seeds_do_not_compile_again(tmp_path):
    calls = []

    def counted(learning_rate):
        calls.append(learning_rate)
        return optax.sgd(learning_rate, momentum=0.9)

    def count(folder, rates, seeds):
        calls.clear()
        protocol = Protocol(seeds=seeds, extensions=0)
        asked = Race(parabola(), (Entry("it", counted),), rates, protocol)
        run_race(asked, tmp_path / folder)
        return len(calls)

    assert count("few", (0.1,), 1) == count("many", (0.01, 0.03, 0.1, 0.3), 4) > 0
    assert all(isinstance(rate, jax.core.Tracer) for rate in calls)


@pytest.mark.parametrize(
    "build",
    [optax.adamw, optax.lbfgs, optax.polyak_sgd, optax.contrib.prodigy, optax.noisy_sgd],
    ids=lambda build: build.__name__,
)
def test_aliases_of_optax_race_whatever_arguments_their_update_wants(
    tmp_path, build, standard_promotion
):
    with jax.numpy_rank_promotion("allow"):
        key = {"key": jax.random.key(0)} if build is optax.noisy_sgd else {}
        factory = functools.partial(build, **key)
        _, record = run_race(single(Entry("it", factory)), tmp_path)
    assert record.validation_loss < record.curve.validation_loss[0]


class OddState(NamedTuple):
    key: jax.Array
    nothing: None
    empty: jax.Array
    momentum: object
    count: int


def odd(lr):
    """SGD with noise and momentum, whose state holds all that is hard to store."""

    def init(params):
        momentum = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
        return OddState(jax.random.key(3), None, jnp.zeros((0, 2)), momentum, 0)

    def update(updates, state, params=None):
        key, used = jax.random.split(state.key)
        momentum = jax.tree.map(lambda m, u: m / 2 + u.astype(m.dtype), state.momentum, updates)
        noise = jax.random.normal(used, (3,))
        new = jax.tree.map(lambda m: -lr * (m.astype(jnp.float32) + noise), momentum)
        return new, state._replace(key=key, momentum=momentum, count=state.count + 1)

    return optax.GradientTransformation(init, update)


ODD = Race(  # three runs of six points
    parabola(steps=6, noise=0.1), (Entry("odd", odd),), (0.01, 0.1), Protocol(seeds=1, extensions=0)
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    points = KillAfter()
    records = run_race(ODD, tmp_path_factory.mktemp("whole"), points)
    assert points.seen == 18
    return outcome(records)


@pytest.mark.parametrize("points", [4, 6, 17])
def test_a_killed_race_goes_on_from_its_checkpoint_to_the_same_records(
    tmp_path, points, uninterrupted
):
    with pytest.raises(Killed):
        run_race(ODD, tmp_path, KillAfter(points), checkpoint_seconds=0.0)
    rest = KillAfter()
    assert outcome(run_race(ODD, tmp_path, rest, checkpoint_seconds=0.0)) == uninterrupted
    assert outcome(read_records(tmp_path / "records.jsonl")) == uninterrupted
    assert points + rest.seen == 18 + 1  # only the point of the kill had not been saved
    assert not (tmp_path / "checkpoints").exists()


def test_a_race_between_checkpoints_starts_its_run_anew_and_ends_the_same(tmp_path, uninterrupted):
    with pytest.raises(Killed):
        run_race(ODD, tmp_path, KillAfter(9))
    rest = KillAfter()
    assert outcome(run_race(ODD, tmp_path, rest)) == uninterrupted
    assert rest.seen == 12


def test_a_kill_between_the_record_and_its_checkpoint_leaves_nothing_behind(
    tmp_path, monkeypatch, uninterrupted
):
    def killed(*args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "forget", killed)
        with pytest.raises(Killed):
            run_race(ODD, tmp_path, checkpoint_seconds=0.0)
    assert len(read_records(tmp_path / "records.jsonl")) == 1
    assert outcome(run_race(ODD, tmp_path)) == uninterrupted
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("damage", ["cut", "changed", "lost"])
def test_a_damaged_checkpoint_is_moved_aside_and_said_and_the_run_starts_again(
    tmp_path, damage, uninterrupted
):
    with pytest.raises(Killed):
        run_race(ODD, tmp_path, KillAfter(4), checkpoint_seconds=0.0)
    files = [path for path in tmp_path.glob("checkpoints/**/leaves/**/*") if path.is_file()]
    for file in files:
        content = file.read_bytes()
        if damage == "lost":
            file.unlink()
        elif damage == "cut":
            file.write_bytes(content[: len(content) // 2])
        else:
            file.write_bytes(bytes(byte ^ 1 for byte in content))
    heard = Remarks()
    assert outcome(run_race(ODD, tmp_path, heard)) == uninterrupted
    (remark,) = heard.remarks
    aside = tmp_path / "run-0-damaged-0"
    assert f"it is in {aside} now, and the run starts again" in remark
    assert aside.is_dir()


def test_a_checkpoint_of_another_run_is_not_taken_up(tmp_path, uninterrupted):
    with pytest.raises(Killed):
        run_race(ODD, tmp_path, KillAfter(4), checkpoint_seconds=0.0)
    (tmp_path / "checkpoints" / "run-0").rename(tmp_path / "kept")
    with pytest.raises(Killed):
        run_race(ODD, tmp_path, KillAfter(7), checkpoint_seconds=0.0)
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / "kept").rename(tmp_path / "checkpoints" / "run-1")
    heard = Remarks()
    assert outcome(run_race(ODD, tmp_path, heard)) == uninterrupted
    assert "it is that of another run: its trial is 0, and here 1" in heard.remarks[0]


def test_progress_is_shown_without_asking(tmp_path, capfd):
    run_race(race(rates=(0.1,), seeds=1), tmp_path / "told")
    assert "sgd, rate 0.1, seed 0: validation loss" in capfd.readouterr().err
    run_race(race(rates=(0.1,), seeds=1), tmp_path / "silent", Display())
    assert capfd.readouterr().err == ""


def test_a_finished_race_runs_nothing(tmp_path):
    def once(lr):
        return optax.sgd(lr)

    asked = single(Entry("it", once))
    records = run_race(asked, tmp_path)

    never = KillAfter(1)
    assert run_race(asked, tmp_path, never) == records
    assert never.seen == 0


def test_each_record_carries_configuration_versions_and_times(tmp_path):
    record = only_record(tmp_path, 0.1)
    assert record.config["task"]["name"] == "parabola"
    assert record.config["protocol"]["seeds"] == 1
    assert record.config["entries"]["sgd"]["function"] == "optax._src.alias.sgd"
    assert record.versions["jax"] == jax.__version__
    assert record.versions["jax_enable_x64"] == "False"
    assert "xla_force_host_platform_device_count" in record.versions["XLA_FLAGS"]
    assert record.versions["processor"]
    assert set(record.timing) == {"run", "step", "update"}
    assert all(seconds > 0 for seconds in record.timing.values())
