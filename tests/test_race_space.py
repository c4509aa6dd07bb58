"""A search takes as many trials as it is given, spread over the whole space."""

import numpy as np
import pytest

from gradsmith.race import RaceError, log, uniform
from gradsmith.race.space import extension, trials

SPACE = {"learning_rate": log(1e-3, 1.0), "momentum": [0.8, 0.9], "decay": uniform(0.0, 0.5)}


@pytest.mark.parametrize("search", ["sobol", "halton"])
@pytest.mark.parametrize("budget", [1, 7, 16])
def test_a_search_takes_its_budget_and_repeats_itself(search, budget):
    found = trials(SPACE, search, budget)
    assert len(found) == budget
    assert found == trials(SPACE, search, budget)
    assert [list(one) for one in found] == [list(SPACE)] * budget


@pytest.mark.parametrize("search", ["sobol", "halton"])
def test_a_search_covers_each_setting_evenly_on_its_own_scale(search):
    found = trials(SPACE, search, 64)
    thirds = np.histogram(np.log10([t["learning_rate"] for t in found]), bins=3, range=(-3, 0))[0]
    assert thirds.min() >= 19
    assert thirds.sum() == 64
    halves = np.histogram([t["decay"] for t in found], bins=2, range=(0, 0.5))[0]
    assert halves.tolist() == [32, 32]
    assert sum(t["momentum"] == 0.9 for t in found) == 32


def test_the_learning_rates_of_a_search_do_not_depend_on_the_other_settings():
    alone = trials({"learning_rate": log(1e-3, 1.0)}, "halton", 8)
    assert len({t["learning_rate"] for t in alone}) == 8


def test_a_grid_has_every_combination():
    found = trials({"a": [1, 2], "b": ["x", "y", "z"]}, "grid", 6)
    assert sorted((t["a"], t["b"]) for t in found) == [(a, b) for a in (1, 2) for b in "xyz"]


@pytest.mark.parametrize(
    ("space", "search", "budget", "message"),
    [
        (SPACE, "grid", None, r"learning_rate=log\(0.001, 1\) has no grid"),
        ({"a": [1, 2]}, "grid", 3, "has 2 trials, and the budget is 3"),
        (SPACE, "sobol", None, "a sobol search needs a budget"),
        ({"a": [1, 2], "b": [3]}, "sobol", 3, "a x b has 2 combinations, and the budget is 3"),
    ],
)
def test_what_cannot_be_searched_is_refused(space, search, budget, message):
    with pytest.raises(RaceError, match=message):
        trials(space, search, budget)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 1.0), (1.0, np.inf)])
def test_a_range_that_is_none_is_refused(low, high):
    with pytest.raises(RaceError, match="range"):
        log(low, high)


@pytest.mark.parametrize(
    ("best", "more"),
    [(0.01, [0.001, 0.0001]), (1.0, [10.0, 100.0]), (0.1, [0.0316, 0.316])],
)
def test_an_extension_lies_beyond_the_edge_or_beside_the_best(best, more):
    assert extension([0.1, 1.0, 0.01], best) == more
