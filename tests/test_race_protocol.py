"""Everyone runs the same grid at seed 0, then the other seeds at the best rate."""

import math

import pytest
from race_helpers import SGD, parabola, race, record

from gradsmith.race import Race, RaceError
from gradsmith.race.protocol import Run, best_rate, next_run


def runs_of(asked, loss):
    """Play a race whose outcomes `loss(run)` gives; None is a divergence."""
    records = []
    while (run := next_run(asked, records)) is not None:
        outcome = loss(run)
        diverged_at = 5 if outcome is None else None
        records.append(record(*run, loss=outcome, diverged_at=diverged_at))
        assert len(records) < 100
    return [Run(r.entry, r.rate, r.seed) for r in records]


def test_the_entries_alternate_over_the_grid_then_over_the_other_seeds_at_their_best_rates():
    losses = {"a": {0.01: 3.0, 0.1: 1.0, 1.0: 2.0}, "b": {0.01: 3.0, 0.1: 2.0, 1.0: 1.0}}
    runs = runs_of(race("a", "b", seeds=3), lambda run: losses[run.entry][run.rate])
    assert runs == [
        *[(entry, rate, 0) for rate in (0.01, 0.1, 1.0) for entry in "ab"],
        *[(entry, rate, seed) for seed in (1, 2) for entry, rate in (("a", 0.1), ("b", 1.0))],
    ]


@pytest.mark.parametrize("loss", [0.001, 99.0], ids=["lucky", "unlucky"])
def test_other_seeds_do_not_change_the_best_rate(loss):
    runs = runs_of(race(seeds=3), lambda run: loss if run.seed else run.rate)
    assert runs[3:] == [("sgd", 0.01, 1), ("sgd", 0.01, 2)]


def test_a_diverged_rate_is_never_the_best():
    runs = runs_of(race(), lambda run: None if run.rate == 0.01 else run.rate)
    assert runs[-1] == ("sgd", 0.1, 1)


def test_who_diverges_at_every_rate_runs_no_other_seed():
    assert len(runs_of(race(), lambda run: None)) == 3
    assert best_rate([record(diverged_at=5)]) is None


def test_a_diverged_seed_does_not_stop_the_others():
    runs = runs_of(race(seeds=4), lambda run: None if run.seed == 1 else run.rate)
    assert [run.seed for run in runs] == [0, 0, 0, 1, 2, 3]


def test_what_runs_next_depends_on_the_records_in_any_order():
    records = [record("sgd", rate, 0, loss=rate) for rate in (1.0, 0.01, 0.1)]
    assert next_run(race(), records) == next_run(race(), records[::-1]) == ("sgd", 0.01, 1)


def test_the_number_of_runs_is_known_beforehand():
    asked = race("a", "b", seeds=3)
    assert len(runs_of(asked, lambda run: run.rate)) == asked.runs_at_most()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entries": ()}, "nobody to race"),
        ({"rates": ()}, "grid of learning rates is empty"),
        ({"rates": (0.1, -0.1)}, "positive"),
        ({"rates": (0.0,)}, "positive"),
        ({"rates": (math.nan,)}, "positive"),
        ({"rates": (math.inf,)}, "positive"),
        ({"rates": (0.1, 0.1)}, "once, got 0.1, 0.1"),
        ({"entries": (SGD, SGD)}, "once, got sgd, sgd"),
        ({"seeds": 0}, "at least one seed"),
    ],
)
def test_a_race_that_cannot_be_run_is_refused(change, message):
    with pytest.raises(RaceError, match=message):
        Race(**{"task": parabola(), "entries": (SGD,), "rates": (0.1,), "seeds": 1, **change})
