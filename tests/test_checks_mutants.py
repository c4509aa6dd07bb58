"""Every check is proved by a mutant that it catches, and by healthy subjects that pass."""

import pytest
from kill_matrix import killers, main
from mutants import MUTANTS

from gradsmith.checks import all_checks


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.check}-{m.subject.name}")
def test_a_mutant_is_caught_by_its_check_and_by_none_that_it_needs(mutant):
    assert list(killers(mutant, only=(mutant.check,))) == [mutant.check]


def test_every_check_has_a_mutant():
    unproved = {check.name for check in all_checks()} - {mutant.check for mutant in MUTANTS}
    assert unproved == {"equinox"}  # see tests/clients/test_checks_equinox.py


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_no_mutant_survives_the_whole_list(part):
    """In parts, so that no worker is left with all of it."""
    assert main([mutant.subject.name for mutant in MUTANTS[part::8]]) == 0
