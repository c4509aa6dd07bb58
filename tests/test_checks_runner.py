"""Order, blocking, time limits, expected failures, and what a report counts."""

import dataclasses
import functools
import gc
import itertools
import json
import re
import signal
import subprocess
import sys
import time
import unittest
import weakref

import jax
import jax.numpy as jnp
import optax
import optax.contrib
import pytest

import gradsmith
from gradsmith.checks import (
    Advice,
    CheckReportError,
    Report,
    Result,
    Subject,
    all_checks,
    check_optimizer,
)
from gradsmith.checks.bench import bench_of
from gradsmith.checks.pytest_plugin import assert_passes
from gradsmith.checks.rounding import rounding
from gradsmith.checks.runner import run_checks, time_limit


def check_named(name):
    return next(check for check in all_checks() if check.name == name)


def widening():
    def update_fn(updates, state, params=None):
        return jax.tree.map(lambda u: u.astype(jnp.float16), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update_fn)


def test_a_failure_names_the_leaf_and_both_values():
    report = check_optimizer(widening, on_failure="return")
    (failure,) = report.failures
    assert failure.check == "updates_like_params"
    assert "['layer']['bias'] is float16[3]; the parameter is float32[3]" in failure.advice.seen


def test_check_optimizer_raises_once_with_everything():
    with pytest.raises(CheckReportError, match=r"float16\[3\]") as caught:
        check_optimizer(widening)
    assert caught.value.report.counts["failed"] == 1


def test_what_builds_on_a_failed_check_is_blocked_and_says_by_whom():
    report = check_optimizer(lambda: None, on_failure="return")
    assert report.counts["failed"] == 1
    assert report.counts["blocked"] == len(report.results) - 1
    assert report.results[-1].reason.endswith("did not pass")
    musts = len(report.not_judged)
    told = f"not judged, {musts} that must pass and {report.counts['blocked'] - musts} advisory: "
    assert told in str(report)
    assert f"blocked; {musts} musts not judged, " in report.headline


def test_an_expected_failure_is_reported_and_does_not_count_against_the_subject():
    known = {"updates_like_params": "by design"}
    report = check_optimizer(widening, only=["updates_like_params"], expected_failures=known)
    assert report.ok
    assert report.counts["expected"] == 1


def test_an_expected_failure_that_passes_is_a_failure():
    subject = Subject("sgd", optax.sgd, expected_failures={"zero_grads": "gone"})
    report = check_optimizer(subject, only=["zero_grads"], on_failure="return")
    (failure,) = report.failures
    assert "take 'zero_grads' off expected_failures" in failure.advice.change


def test_expecting_an_unknown_check_to_fail_is_an_error():
    with pytest.raises(ValueError, match="no check is called 'zero_gradients'"):
        check_optimizer(optax.sgd, expected_failures={"zero_gradients": "x"})


def test_unknown_traits_are_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown traits.*known are needs_params"):
        Subject("sgd", optax.sgd, traits={"linear"})


def test_a_check_called_on_a_subject_raises_its_advice():
    with pytest.raises(AssertionError, match="change to make"):
        assert_passes(check_named("updates_like_params"), Subject("widening", widening))


def test_a_blocked_check_called_on_a_subject_is_a_skip():
    with pytest.raises(unittest.SkipTest, match="blocked: updates_like_params did not pass"):
        assert_passes(check_named("zero_grads"), Subject("widening", widening))


def test_a_check_that_takes_too_long_is_inconclusive():
    def slow():
        time.sleep(30)

    subject = Subject("slow", slow)
    (result,) = run_checks(subject, [check_named("is_transformation")], limit=0.05)
    assert (result.outcome, result.reason) == ("inconclusive", "took more than 0.05 s")


def test_a_subject_that_exits_fails_and_the_run_goes_on():
    def leaving():
        raise SystemExit(3)

    report = check_optimizer(leaving, on_failure="return")
    assert "SystemExit: 3" in report.failures[0].advice.seen
    assert len(report.results) > 1


def test_donation_spoils_no_other_check_where_all_states_share_an_array():
    key = jax.random.PRNGKey(42)  # as a default argument: one array for every state

    def update_fn(updates, state, params=None):
        return updates, {"key": state["key"] + jnp.ones((), jnp.uint32)}

    def factory():
        return optax.GradientTransformation(lambda params: {"key": key}, update_fn)

    subject = Subject("keyed", factory)
    before = check_optimizer(subject, only=["donate", "zero_grads"], on_failure="return")
    after = check_optimizer(subject, only=["compilation", "persistence"], on_failure="return")
    again = check_optimizer(factory, only=["donate", "zero_grads"], on_failure="return")
    for report in (before, after, again):
        assert [failure.check for failure in report.failures] == ["donate"]
    assert not key.is_deleted()


def test_what_a_subject_prints_is_swallowed(capsys):
    def talking(learning_rate):
        print("hello")
        return optax.sgd(learning_rate)

    check_optimizer(talking, only=["contract"])
    assert capsys.readouterr().out == ""


def test_a_transformation_without_factory_skips_what_needs_one():
    report = check_optimizer(optax.sgd(0.1), name="sgd")
    (result,) = (r for r in report.results if r.check == "inject_learning_rate")
    assert result.outcome == "skipped"
    assert result.reason.startswith("needs a factory")


def test_a_report_in_which_nothing_ran_is_not_ok():
    skipped = Result("a", "contract", "must", "skipped")
    assert not Report("x", (skipped,), {}, 0.0).ok


def test_a_result_survives_json():
    result = Result("a", "contract", "must", "failed", 0.5, "", Advice("this", "that"))
    assert Result.from_dict(json.loads(json.dumps(dataclasses.asdict(result)))) == result


def test_the_json_report_has_counts_and_advice():
    record = json.loads(check_optimizer(widening, on_failure="return").to_json())
    assert record["counts"]["failed"] == 1
    assert not record["ok"]
    failed = [result for result in record["results"] if result["outcome"] == "failed"]
    assert failed[0]["advice"]["expected"].startswith("Updates have the tree")


@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("factory", [optax.adam, optax.lion], ids=lambda f: f.__name__)
def test_optimizers_that_are_right_pass(factory):
    known = {"inject_bf16": "optax issue 1414"} if factory is optax.adam else {}
    report = check_optimizer(factory, expected_failures=known)
    assert report.ok, str(report)


def test_a_factory_for_one_model_is_told_to_take_axes():
    def of_my_model(learning_rate):
        axes = {"my/kernel": gradsmith.MatrixAxes()}
        return gradsmith.per_matrix(lambda x: learning_rate * x, axes=axes)

    report = check_optimizer(of_my_model, only=["core_runs"], on_failure="return")
    (failure,) = report.failures
    assert "`axes=None`" in failure.advice.change


def test_why_checks_were_skipped_is_told_once_a_reason():
    report = check_optimizer(optax.sgd(0.1), only=["model_init", "model_mesh", "chain"])
    reasons = {result.reason for result in report.results if result.outcome == "skipped"}
    assert len(reasons) == 1
    assert report.not_applicable == [f"- {report.counts['skipped']} skipped: {reasons.pop()}"]


def test_a_must_that_is_blocked_is_not_judged_and_no_success():
    known = {"updates_like_params": "by design"}
    report = check_optimizer(
        widening, only=["zero_grads"], expected_failures=known, on_failure="return"
    )
    assert not report.failures
    assert not report.ok
    assert [result.check for result in report.not_judged] == ["zero_grads"]
    assert "not judged, 1 that must pass: zero_grads" in str(report)
    assert json.loads(report.to_json())["not_judged"] == ["zero_grads"]


def test_a_blocked_check_may_be_declared_together_with_what_blocks_it():
    known = {"updates_like_params": "by design", "zero_grads": "follows from it"}
    report = check_optimizer(widening, only=["zero_grads"], expected_failures=known)
    assert report.counts["expected"] == 2


@pytest.mark.parametrize("core", ["is_transformation", "update_signature", "core_runs"])
def test_what_everything_builds_on_cannot_be_expected_to_fail(core):
    with pytest.raises(ValueError, match="cannot be expected to fail"):
        check_optimizer(optax.sgd, expected_failures={core: "x"})


def test_the_tier_must_runs_musts_alone():
    report = check_optimizer(optax.sgd, tier="must", only=["contract", "composition"])
    assert {result.tier for result in report.results} == {"must"}


def test_memory_that_runs_out_is_inconclusive():
    def hungry():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")

    (result,) = run_checks(Subject("hungry", hungry), [check_named("is_transformation")])
    assert (result.outcome, result.reason) == ("inconclusive", "memory ran out")


def test_an_error_nobody_knows_is_told_in_its_own_words():
    def update_fn(updates, state, params=None):
        raise RuntimeError("the flux capacitor is empty")

    factory = lambda: optax.GradientTransformation(optax.init_empty_state, update_fn)
    report = check_optimizer(factory, on_failure="return")
    (failure,) = report.failures
    assert "the flux capacitor is empty" in failure.advice.seen
    assert "return updates" not in failure.advice.change
    assert "test_checks_runner.py" in failure.advice.change


def test_a_rule_for_matrices_that_meets_a_bias_is_told_so_and_nothing_else():
    factory = lambda: gradsmith.per_matrix(lambda x: x / 2)
    report = check_optimizer(factory, on_failure="return")
    (failure,) = report.failures
    assert "bias" in failure.advice.seen
    assert "return updates, new_state" not in failure.advice.change


def test_the_diagnosis_has_the_time_limit_of_the_check(monkeypatch):
    monkeypatch.setattr("gradsmith.checks.runner.failure_from", lambda *_: time.sleep(30))

    def failing():
        raise RuntimeError("at once")

    (result,) = run_checks(Subject("x", failing), [check_named("is_transformation")], limit=0.1)
    assert "at once" in result.advice.seen


def test_a_timer_of_the_caller_runs_on_after_a_check():
    rung = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rung.append(True))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with time_limit(30.0):
            while signal.getitimer(signal.ITIMER_REAL)[0] > 29.9:
                pass
        signal.sigtimedwait({signal.SIGALRM}, 5.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert rung


def test_a_bench_goes_with_its_subject():
    subject = Subject("sgd", optax.sgd)
    alive = weakref.ref(bench_of(subject))
    assert bench_of(subject) is alive()
    del subject
    gc.collect()
    assert alive() is None


def test_orbax_serves_several_optimizers_in_one_process():
    for factory in (optax.lion, optax.sgd, optax.lion):
        report = check_optimizer(factory, only=["orbax"])
        assert report.results[-1].outcome == "passed"


SAVED_AND_NOT_SAVED = """
import threading, jax.numpy as jnp, optax
from gradsmith.checks import check_optimizer

def empty(learning_rate):
    return optax.GradientTransformation(
        lambda params: jnp.zeros(0), lambda updates, state, params=None: (updates, state)
    )

for factory in (optax.lion, empty, empty):
    report = check_optimizer(factory, only=["orbax"], on_failure="return", limit=600.0)
    print(report.results[-1].outcome, *threading.enumerate()[1:])
"""


def test_orbax_leaves_no_thread_behind_and_nothing_to_say():
    """Also where it cannot save a state, such as an array of size zero."""
    command = [sys.executable, "-c", SAVED_AND_NOT_SAVED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.stdout.splitlines() == ["passed", "failed", "failed"], done.stderr
    assert not re.search("orbax|futures|Traceback", done.stderr), done.stderr


# What is right, and was called wrong.


def test_a_function_that_is_called_callback_is_no_callback():
    @jax.jit
    def callback(u):
        return u / 2

    factory = lambda: optax.stateless(lambda updates, params: jax.tree.map(callback, updates))
    assert check_optimizer(factory, only=["no_callbacks"]).ok


@pytest.mark.usefixtures("standard_promotion")
def test_a_decay_mask_by_name_passes_once_it_is_declared():
    def mask(params):
        named = lambda path, _: path[-1].key != "bias"
        return jax.tree_util.tree_map_with_path(named, params)

    factory = lambda learning_rate: optax.adamw(learning_rate, mask=mask)
    report = check_optimizer(factory, name="adamw", only=["trees"], traits={"by_name"})
    assert report.ok, str(report)


def test_a_typed_key_in_the_state_is_no_fault():
    def update_fn(updates, state, params=None):
        return updates, {"key": jax.random.split(state["key"], 1)[0]}

    init = lambda params: {"key": jax.random.key(0)}
    factory = lambda: optax.GradientTransformation(init, update_fn)
    report = check_optimizer(factory, only=["flax_msgpack"])
    assert report.results[-1].outcome == "skipped"
    assert "typed PRNG key" in report.results[-1].reason


def test_a_rate_too_small_to_move_float32_climbs_nothing():
    tiny = functools.partial(optax.sgd, learning_rate=1e-9)
    report = check_optimizer(tiny, only=["leaves_descend"])
    assert report.results[-1].outcome == "passed"


def test_a_counter_in_the_closure_is_no_fault_of_donation():
    def factory(learning_rate=0.01):
        calls = itertools.count(1)
        rule = lambda u: -learning_rate * u / next(calls)
        return optax.stateless(lambda updates, params: jax.tree.map(rule, updates))

    report = check_optimizer(factory, only=["donate", "multisteps"], on_failure="return")
    assert [result.check for result in report.failures] == ["pure"]


def test_an_optimizer_that_wraps_another_has_no_rate():
    wrapped = {"base_optimizer": optax.sgd(0.01)}
    assert Subject("wrapper", optax.contrib.mechanize, wrapped).rate_name is None
    assert Subject("by a schedule", optax.sgd, {"learning_rate": abs}).rate_name == "learning_rate"
    assert Subject("first", lambda eta0: optax.sgd(eta0), {"eta0": 0.1}).rate_name == "eta0"
    for named in (lambda peak_lr=0.1: optax.sgd(peak_lr), lambda base_learning_rate=0.1: optax.sgd):
        assert Subject("first", named).rate_name in ("peak_lr", "base_learning_rate")
    assert Subject("a mean", lambda decay_rate=0.9: optax.ema(decay_rate)).rate_name is None


def test_a_gradient_of_zero_is_what_rounding_left():
    """schedule_free_sgd lands at the bottom of the bowl in one step, up to the last bit."""
    spared = rounding(lambda grad: 1e-9 * grad, jnp.zeros(3))
    assert 0 < spared < 1e-14
