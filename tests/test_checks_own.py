"""Our own optimizers meet the kit that everyone's meet, without expected failures."""

import inspect

import pytest

from gradsmith import optimizers
from gradsmith.checks import check_optimizer

RECIPES = [
    function
    for name, function in vars(optimizers).items()
    if inspect.isfunction(function)
    and function.__module__ == optimizers.__name__
    and not name.startswith("_")
]


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion")  # optax.MultiSteps and others need it
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__)
def test_a_recipe_passes_every_check(recipe):
    report = check_optimizer(recipe)
    remarks = {remark.check for remark in report.remarks}
    # Adam's second moment stays infinite; 300 steps of mars_muon at a rate of 0.01 are not enough
    assert remarks <= {"overflow_recovers", "descends"}, str(report)
    assert not report.counts["inconclusive"], str(report)
