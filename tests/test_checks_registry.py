"""The list of checks is sound in itself: order, names, what each declares."""

import pytest

from gradsmith.checks import all_checks
from gradsmith.checks.check import PHASES
from gradsmith.checks.registry import select, with_needs


def test_a_check_needs_none_of_a_later_phase():
    phase = {check.name: PHASES.index(check.phase) for check in all_checks()}
    for check in all_checks():
        assert all(phase[need] <= phase[check.name] for need in check.needs), check.name


def test_every_check_stands_after_those_it_needs():
    seen: set[str] = set()
    for check in all_checks():
        assert seen.issuperset(check.needs), check.name
        seen.add(check.name)


def test_no_must_needs_what_is_none():
    tier = {check.name: check.tier for check in all_checks()}
    for check in all_checks():
        if check.tier == "must":
            assert {tier[need] for need in check.needs} <= {"must"}, check.name


def test_names_are_unique_and_differ_from_groups_and_phases():
    names = [check.name for check in all_checks()]
    assert len(set(names)) == len(names)
    assert set(names).isdisjoint({check.group for check in all_checks()} | set(PHASES))


@pytest.mark.parametrize("check", all_checks(), ids=lambda check: check.name)
def test_every_check_defines_itself_and_gives_advice(check):
    assert check.headline.endswith(".")
    assert check.cause
    assert check.change
    assert check.call


def test_choosing_by_group_phase_and_name():
    assert {check.group for check in select(only=["magnitudes"])} == {"magnitudes"}
    assert {check.phase for check in select(only=["abstract"])} == {"abstract"}
    assert [check.name for check in select(only=["bf16"])] == ["bf16"]


def test_the_tier_must_leaves_out_the_advisory_checks_alone():
    left_out = set(select("all")) - set(select("must"))
    assert {check.tier for check in left_out} == {"advisory"}
    assert {check.tier for check in select("must")} == {"must", "trait"}


def test_what_a_check_needs_comes_with_it_and_before_it():
    names = [check.name for check in with_needs(select(only=["bf16"]))]
    assert names[-1] == "bf16"
    assert "is_transformation" in names


def test_an_unknown_name_is_an_error_that_suggests_the_known_one():
    with pytest.raises(ValueError, match="no check is called 'zero_grad'; did you mean zero_grads"):
        select(only=["zero_grad"])
