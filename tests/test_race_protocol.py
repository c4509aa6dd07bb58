"""Everyone is tuned by as many trials, then reported at other seeds; nothing else decides."""

import dataclasses
import math

import pytest
from race_helpers import SGD, parabola, race, record

from gradsmith.race import Entry, Protocol, Race, RaceError, log
from gradsmith.race.protocol import Run, all_trials, best_trial, is_on_edge, jobs
from gradsmith.race.table import worth


def play(asked, loss):
    """Play a race whose outcomes `loss(run, settings)` gives; None is a divergence."""
    records = []
    while left := jobs(asked, records):
        number, run, settings = left[0]
        assert number == len(records)
        outcome = loss(run, settings["learning_rate"])
        diverged_at = 5 if outcome is None else None
        records.append(
            record(
                run.entry,
                settings["learning_rate"],
                run.seed,
                loss=outcome,
                diverged_at=diverged_at,
                trial=run.trial,
            )
        )
        assert len(records) < 200
    return records


def runs_of(asked, loss):
    return [Run(r.entry, r.trial, r.seed) for r in play(asked, loss)]


def test_the_entries_alternate_over_the_trials_then_over_the_reported_seeds_of_their_best():
    losses = {"a": {0.01: 3.0, 0.1: 1.0, 1.0: 2.0}, "b": {0.01: 3.0, 0.1: 2.0, 1.0: 1.0}}
    runs = runs_of(race("a", "b", seeds=2), lambda run, rate: losses[run.entry][rate])
    assert runs == [
        *[(entry, trial, -1) for trial in range(3) for entry in "ab"],
        *[(entry, trial, seed) for seed in (0, 1) for entry, trial in (("a", 1), ("b", 2))],
    ]


@pytest.mark.parametrize("loss", [0.001, 99.0], ids=["lucky", "unlucky"])
def test_what_is_reported_never_changes_what_is_chosen(loss):
    runs = runs_of(race(seeds=3), lambda run, rate: loss if run.seed >= 0 else rate)
    assert runs[3:] == [("sgd", 0, 0), ("sgd", 0, 1), ("sgd", 0, 2)]


def test_tuning_seeds_and_reported_seeds_are_apart():
    asked = dataclasses.replace(race(), protocol=Protocol(tuning_seeds=2, seeds=3, extensions=0))
    records = play(asked, lambda run, rate: rate)
    tuning = {r.seed for r in records if r.trial == 1}
    reported = {r.seed for r in records} - tuning
    assert (tuning, reported) == ({-1, -2}, {0, 1, 2})


def test_tuned_for_each_seed_every_seed_has_tuning_seeds_and_a_choice_of_its_own():
    protocol = Protocol(tuned="each", tuning_seeds=2, seeds=3, extensions=0)
    asked = dataclasses.replace(race("a", "b"), protocol=protocol)
    best = {
        ("a", 0): 0.1,
        ("a", 1): 0.01,
        ("a", 2): 1.0,
        ("b", 0): 1.0,
        ("b", 1): 0.1,
        ("b", 2): 0.1,
    }

    def loss(run, rate):
        group = (-1 - run.seed) // 2 if run.seed < 0 else run.seed
        return abs(rate - best[run.entry, group])

    records = play(asked, loss)
    tuning = [r.seed for r in records if r.entry == "a" and r.trial == 0 and r.seed < 0]
    assert sorted(tuning) == [-6, -5, -4, -3, -2, -1]
    reported = {(r.entry, r.seed): r.settings["learning_rate"] for r in records if r.seed >= 0}
    assert reported == best
    assert len(records) == asked.runs_at_most()
    assert "tuned for each reported seed by 3 trials at 2 seeds;" in worth(asked, [])


def test_the_best_trial_has_the_lowest_mean_over_the_tuning_seeds():
    losses = {0.01: (1.0, 5.0), 0.1: (2.0, 2.0), 1.0: (9.0, 0.5)}
    records = [
        record(rate=rate, seed=-1 - i, loss=loss, trial=trial)
        for trial, (rate, pair) in enumerate(losses.items())
        for i, loss in enumerate(pair)
    ]
    assert best_trial(race(), records, "sgd") == 1


def test_a_trial_that_diverged_at_one_seed_is_never_the_best():
    records = [record(seed=-1, loss=0.1), record(seed=-2, diverged_at=3)]
    records += [record(seed=seed, loss=9.0, trial=1) for seed in (-1, -2)]
    assert best_trial(race(), records, "sgd") == 1


def test_a_trial_that_diverged_is_charged_and_not_replaced():
    runs = runs_of(race(), lambda run, rate: None if rate == 0.01 else rate)
    assert runs == [("sgd", trial, -1) for trial in range(3)] + [("sgd", 1, 0), ("sgd", 1, 1)]


def test_selection_by_steps_takes_the_fastest_and_falls_back_on_the_loss():
    asked = dataclasses.replace(race(), protocol=Protocol(selection="steps"))
    slow = record(seed=-1, loss=0.1, steps_to_target=20)
    fast = record(seed=-1, loss=0.2, steps_to_target=10, trial=1)
    never = record(seed=-1, loss=0.3, trial=2)
    worse = record(seed=-1, loss=0.4, trial=3)
    assert best_trial(asked, [slow, fast, never], "sgd") == 1
    assert best_trial(asked, [worse, never], "sgd") == 2


def test_who_diverges_at_every_trial_is_not_reported():
    assert len(runs_of(race(), lambda run, rate: None)) == 3


def test_a_diverged_seed_does_not_stop_the_others():
    runs = runs_of(race(seeds=4), lambda run, rate: None if run.seed == 1 else rate)
    assert [run.seed for run in runs] == [-1, -1, -1, 0, 1, 2, 3]


def test_one_best_rate_at_the_edge_extends_everyone_by_as_many_trials():
    asked = race("low", "mid", seeds=1, extensions=1)
    best = {"low": 0.001, "mid": 0.1}
    distance = lambda run, rate: abs(math.log(rate / best[run.entry])) + 1
    records = play(asked, distance)
    known = all_trials(asked, records)
    assert [t["learning_rate"] for t in known["low"]] == [0.01, 0.1, 1.0, 0.001, 0.0001]
    assert [t["learning_rate"] for t in known["mid"]] == [0.01, 0.1, 1.0, 0.0316, 0.316]
    chosen = {r.entry: r.rate for r in records if r.seed == 0}
    assert chosen == best
    assert not is_on_edge(all_trials(asked, records)["low"], best_trial(asked, records, "low"))
    assert len(records) == asked.runs_at_most() == 2 * (3 + 2 + 1)


def test_nobody_at_the_edge_extends_nobody():
    asked = race("a", seeds=1, extensions=3)
    runs = runs_of(asked, lambda run, rate: abs(math.log(rate / 0.1)) + 1)
    assert len(runs) == 4


def test_extensions_end_when_they_are_used_up_and_the_edge_is_told():
    asked = race("a", seeds=1, extensions=2)
    records = play(asked, lambda run, rate: rate)
    assert len(all_trials(asked, records)["a"]) == 3 + 2 + 2
    assert is_on_edge(all_trials(asked, records)["a"], best_trial(asked, records, "a"))


def test_a_race_cut_off_anywhere_goes_on_the_same():
    asked = race("a", "b", seeds=2, extensions=1)
    outcome = lambda run, rate: abs(math.log(rate / 2.0)) + 1
    records = play(asked, outcome)
    for cut in range(len(records)):
        following = records[cut]
        expected = (following.entry, following.trial, following.seed)
        left = jobs(asked, records[:cut])
        assert left == jobs(asked, records[:cut][::-1])
        assert left[0].run == expected


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
        ({"entries": (SGD, Entry("b", SGD.build, {"m": [1, 2]}))}, "sgd 1, b 2"),
        ({"entries": (Entry("b", SGD.build, {"learning_rate": log(0.1, 1.0)}),)}, "has no grid"),
    ],
)
def test_a_race_that_cannot_be_run_is_refused(change, message):
    with pytest.raises(RaceError, match=message):
        Race(**{"task": parabola(), "entries": (SGD,), "rates": (0.1,), **change})


def test_a_search_takes_all_rates_from_the_lowest_to_the_highest():
    rates, searched = (0.001, 0.1), Protocol("sobol", 16)
    race = Race(parabola(), (SGD,), rates, searched)
    tried = [one["learning_rate"] for one in race.first_trials(SGD)]
    assert len(set(tried)) == 16
    assert all(0.001 <= rate <= 0.1 for rate in tried)
    assert sum(rate < 0.01 for rate in tried) == 8  # half of them, on a logarithmic scale
    assert Race(parabola(), (SGD,), rates).first_trials(SGD) == [
        {"learning_rate": rate} for rate in rates
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, "at least one seed"),
        ({"tuning_seeds": 0}, "at least one tuning seed"),
        ({"budget": 0}, "at least one trial"),
        ({"extensions": -1}, "fewer than none"),
        ({"search": "random"}, "search is one of grid, sobol, halton, got 'random'"),
        ({"selection": "luck"}, "selection is one of loss, steps"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(RaceError, match=message):
        Protocol(**change)
