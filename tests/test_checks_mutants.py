"""Every check is proved by a mutant that it catches, and by healthy subjects that pass."""

import pytest
from kill_matrix import killers, main, tells
from mutants import MUTANTS

from gradsmith.checks import all_checks

GROUP = {check.name: check.group for check in all_checks()}
FIRST = {GROUP[mutant.check]: mutant for mutant in reversed(MUTANTS)}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.check}-{m.subject.name}")
def test_a_mutant_is_caught_by_its_check_with_its_cause_and_by_none_that_it_needs(mutant):
    found = killers(mutant, only=(mutant.check,))
    assert list(found) == [mutant.check]
    assert tells(mutant, found[mutant.check]), found[mutant.check]


def test_every_check_has_a_mutant():
    unproved = {check.name for check in all_checks()} - {mutant.check for mutant in MUTANTS}
    assert unproved == {"equinox"}  # see tests/clients/test_checks_equinox.py


@pytest.mark.slow
@pytest.mark.parametrize("group", FIRST)
def test_a_mutant_of_each_group_does_not_survive_the_whole_list(group):
    """`python tests/kill_matrix.py` takes them all through it; `--share 1/8` an eighth."""
    assert main([FIRST[group].subject.name]) == 0
