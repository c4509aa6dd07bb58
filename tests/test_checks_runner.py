"""Order, blocking, time limits, expected failures, and what a report counts."""

import dataclasses
import json
import time
import unittest

import jax
import jax.numpy as jnp
import optax
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
from gradsmith.checks.pytest_plugin import assert_passes
from gradsmith.checks.runner import run_checks


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


def test_an_expected_failure_is_reported_and_does_not_count_against_the_subject():
    report = check_optimizer(widening, expected_failures={"updates_like_params": "by design"})
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
