"""The check `equinox`, which the other tests skip: they run without Equinox."""

import dataclasses

import jax
import optax
import pytest
from kill_matrix import killers, tells
from mutants import Mutant, leafwise

from gradsmith.checks import Subject, all_checks, check_optimizer
from gradsmith.checks.reproducer import reproducer

pytestmark = [pytest.mark.slow, pytest.mark.clients, pytest.mark.filterwarnings("default")]
pytest.importorskip("equinox", reason="pip install 'gradsmith[clients]'")


def attributes_by_name():
    """Updates a module, and returns a dict of its attributes."""

    def update(updates, params):
        updates = jax.tree.map(lambda u: u * 1.0, updates)
        return vars(updates) if dataclasses.is_dataclass(updates) else updates

    return optax.stateless(update)


def test_it_catches_an_optimizer_that_gives_back_another_tree():
    mutant = Mutant("equinox", Subject("attributes by name", attributes_by_name), "another tree")
    found = killers(mutant)
    assert list(found) == ["equinox"]
    assert tells(mutant, found["equinox"])


def test_it_ran_and_passes_an_optimizer_that_is_right():
    report = check_optimizer(lambda: leafwise(lambda u: u * -0.1), only=["equinox"])
    assert {result.check: result.outcome for result in report.results}["equinox"] == "passed"


def test_its_reproducing_line_runs():
    (check,) = (check for check in all_checks() if check.name == "equinox")
    exec(reproducer(check.call, Subject("sgd", optax.sgd)), {})
