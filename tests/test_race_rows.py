"""The table says what the records say, and the verdict no more than that."""

import dataclasses
import math

import pytest
from race_helpers import race, record
from rich.console import Console

from gradsmith.race import Protocol, rows
from gradsmith.race.rows import pairs
from gradsmith.race.table import cells, headings, notes, table, worth
from gradsmith.race.verdict import lead, verdict

RATES = (0.01, 0.1, 1.0)


def grid(entry="sgd", losses=(3.0, 1.0, 2.0), **more):
    return [
        record(entry, rate, -1, loss=loss, diverged_at=None if loss else 37, trial=trial, **more)
        for trial, (rate, loss) in enumerate(zip(RATES, losses, strict=True))
    ]


def reported(entry="sgd", losses=(1.0, 1.5), trial=1, **more):
    return [
        record(
            entry,
            RATES[trial],
            seed,
            loss=loss,
            diverged_at=None if loss else 5,
            trial=trial,
            **more,
        )
        for seed, loss in enumerate(losses)
    ]


def test_a_row_is_the_mean_over_the_reported_seeds_of_the_best_trial():
    (row,) = rows(race(), [*grid(), *reported()])
    assert row.settings == {"learning_rate": 0.1}
    assert row.losses == (1.0, 1.5)
    assert row.loss == 1.25
    half = 12.7062 * 0.25  # Student's factor for two values; their deviation is 0.5 / sqrt(2)
    assert row.interval == pytest.approx((1.25 - half, 1.25 + half), rel=1e-4)
    assert cells(row)[:3] == ["sgd", "rate 0.1", "1.250 ± 3.2"]


@pytest.mark.parametrize(
    ("losses", "on_edge"),
    [((1.0, 2.0, 3.0), True), ((2.0, 1.0, 3.0), False), ((3.0, 2.0, 1.0), True)],
)
def test_a_best_rate_on_the_edge_is_flagged(losses, on_edge):
    asked, records = race(seeds=1), grid(losses=losses)
    (row,) = rows(asked, records)
    assert row.on_edge == on_edge
    assert cells(row)[1].endswith("*") == on_edge
    assert any("lowest or highest learning rate" in n for n in notes(asked, records)) == on_edge


def test_who_diverges_everywhere_stands_last_and_says_so():
    records = [*grid("bad", (None, None, None)), *grid("good"), *reported("good", (1.0,))]
    asked = race("bad", "good", seeds=1)
    good, bad = rows(asked, records)
    assert (good.entry, bad.entry) == ("good", "bad")
    assert cells(bad)[1:4] == ["none", "diverged at every trial", "not reached"]
    said = notes(asked, records)
    where = ", ".join(f"with rate {rate:g} at step 37" for rate in RATES)
    assert f"bad diverged in 3 of 3 tuning runs: {where}" in said


def test_a_diverged_seed_is_counted_costs_the_place_and_is_said():
    records = [*grid("a"), *reported("a", (1.0, None)), *grid("b"), *reported("b", (9.0, 8.0))]
    asked = race("a", "b")
    first, second = rows(asked, records)
    assert (first.entry, second.entry) == ("b", "a")
    assert cells(second)[2] == "1 of 2 diverged"
    assert verdict(asked, records)[0].startswith("a diverged at 1 of 2 reported seeds")
    assert pairs(asked, records) == []


def test_one_seed_has_no_interval():
    (row,) = rows(race(seeds=1), [*grid(), *reported(losses=(1.0,))])
    assert cells(row)[2] == "1.000"
    assert "loss, 1 seed" in headings(race(seeds=1))


def test_steps_to_the_target_are_crossings_with_their_interval():
    (row,) = rows(race(target=2.0), [*grid(), *reported(losses=(1.0, 1.5))])
    # from 3 at step 10 to 1 at step 20, and to 1.5
    assert row.steps_to_target == pytest.approx((15 + 1 / 1.2, 15, 10 + 10 / 1.5))
    assert row.passes_to_target.low == 30
    assert row.confidence == 0.5
    assert cells(row)[3] == "16 (15 to 17)"


def test_a_run_that_never_comes_to_the_target_is_no_step():
    records = [*grid(), *reported(losses=(1.0, 2.5, 2.5))]
    (row,) = rows(race(seeds=3, target=2.0), records)
    assert row.steps_to_target.estimate == math.inf
    assert cells(row)[3] == "not reached"
    records = [*grid(), *reported(losses=(1.0, 1.0, 2.5))]
    assert cells(rows(race(seeds=3, target=2.0), records)[0])[3] == "15 (15 to never)"


def test_times_are_medians_over_all_records_of_an_entry():
    times = [{"run": 1.0, "step": s, "update": u} for s, u in ((1.0, 0.5), (2.0, 0.2), (9.0, 0.9))]
    records = [
        dataclasses.replace(one, timing=timing) for one, timing in zip(grid(), times, strict=True)
    ]
    (row,) = rows(race(seeds=1), records)
    assert (row.step, row.update_share) == (2.0, 0.1)
    assert cells(row)[4:] == ["2 s", "10.0%"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.0, "12 s"), (1.0, "1 s"), (0.0203, "20.3 ms"), (8.5e-5, "85 µs")]
)
def test_a_time_has_a_unit_that_fits(seconds, text):
    one = record(seed=-1, timing={"run": 1.0, "step": seconds, "update": seconds})
    (row,) = rows(race(rates=(0.1,), seeds=1), [one])
    assert cells(row)[4:] == [text, "100.0%"]


def test_what_an_entry_is_and_more_passes_than_steps_are_noted():
    more = {"passes": {"forward": 60, "backward": 40}}
    searched = [*grid("a", **more), *reported("a", (1.0,), **more)]
    asked = race("a", "b", seeds=1, target=2.0)
    first = dataclasses.replace(asked.entries[0], about="2 leaves to search")
    asked = dataclasses.replace(asked, entries=(first, asked.entries[1]))
    said = notes(asked, [*searched, *grid("b"), *reported("b", (1.0,))])
    assert "a: 2 leaves to search" in said
    (passes,) = (note for note in said if "passes" in note)
    assert passes.startswith("a takes 3 forward and 2 backward passes through the model in a step")
    assert passes.endswith("it comes to the target after 30 passes")


CLEAR = {"a": (1.0, 1.1, 1.2, 1.3), "b": (1.5, 1.61, 1.69, 1.8)}
CLOSE = {"a": (1.0, 1.2, 1.1, 1.3), "b": (1.1, 1.1, 1.3, 1.2)}


def compared(**losses):
    asked = race(*losses, seeds=4)
    records = [one for name, own in losses.items() for one in grid(name) + reported(name, own)]
    return asked, records


def test_a_shown_difference_is_said_with_its_interval_and_p_value():
    asked, records = compared(**CLEAR)
    (text,) = verdict(asked, records)
    (pair,) = pairs(asked, records)
    # differences 0.5, 0.51, 0.49, 0.5: deviation 0.00816, Student's factor 3.1824
    half = 3.1824 * 0.0081650 / 2
    assert pair.difference.interval == pytest.approx((0.5 - half, 0.5 + half), rel=1e-3)
    assert text == f"a is better than b by 0.5000 ± {half:.5f} (n = 4, p < .0001, Holm)"
    assert not any(row.tied for row in rows(asked, records))


def test_what_is_not_shown_is_a_tie_with_the_seeds_that_would_show_it():
    asked, records = compared(**CLOSE)
    (text,) = verdict(asked, records)
    assert text.startswith("a and b are not distinguishable (n = 4, p = .7608, Holm); about ")
    assert text.endswith("more seeds would show a difference of 0.02500")
    assert [cells(row)[0] for row in rows(asked, records)] == ["a =", "b ="]
    assert any(note.startswith("= a and b: no entry is shown") for note in notes(asked, records))


def test_the_lead_says_who_is_first_and_whether_that_is_shown():
    asked, records = compared(**CLEAR)
    assert lead(asked, records).startswith("a ended lowest, at 1.150 ± 0.21 (mean of 4 seeds), and")
    assert "not shown" not in lead(asked, records)
    asked, records = compared(**CLOSE)
    assert lead(asked, records).endswith("steps, but is not shown to be better than b.")


def test_holm_is_over_all_pairs_of_the_race():
    asked, records = compared(**CLOSE, c=CLEAR["b"])
    alone = {frozenset((p.better, p.worse)): p.difference.p for p in pairs(asked, records)}
    adjusted = {frozenset((p.better, p.worse)): p.p for p in pairs(asked, records)}
    assert len(alone) == 3
    smallest = min(alone, key=alone.get)
    assert adjusted[smallest] == pytest.approx(3 * alone[smallest])


def test_what_is_shown_of_pairs_without_the_first_is_said_as_well():
    third = tuple(loss + 1 for loss in CLEAR["b"])
    asked, records = compared(**CLEAR, c=third, d=CLOSE["b"])
    told = verdict(asked, records)
    assert [text.split(" by ")[0] for text in told[:3] if "better" in text] == [
        "a is better than b",
        "a is better than c",
    ]
    assert told[3:] == ["d is better than b and c, Holm", "b is better than c, Holm"]
    asked, records = compared(**CLEAR, c=CLEAR["b"])
    assert verdict(asked, records)[2:] == ["not distinguishable among the others: 1 of 1 pairs"]


def test_one_seed_shows_nothing():
    asked = race("a", "b", seeds=1)
    records = [*grid("a"), *reported("a", (1.0,)), *grid("b"), *reported("b", (2.0,))]
    (text,) = verdict(asked, records)
    assert "at one seed, which shows nothing" in text


def test_the_optimization_tracks_rule_is_told_by_its_name():
    asked, records = compared(**CLEAR)
    asked = dataclasses.replace(asked, protocol=Protocol(seeds=4, verdict="track", extensions=0))
    asked = dataclasses.replace(asked, task=dataclasses.replace(asked.task, target=1.2))
    first, second = verdict(asked, records)
    assert first.startswith("a meets the target 1.2 by the optimization track's rule")
    assert "= 0.1000, and 0.004 is needed (n = 4)" in first
    assert second.startswith("b does not meet")


def test_the_lowest_loss_stands_first():
    losses = {"a": 2.0, "b": 1.0, "c": 1.5}
    records = [one for n, x in losses.items() for one in grid(n) + reported(n, (x,))]
    assert [row.entry for row in rows(race("a", "b", "c", seeds=1), records)] == ["b", "c", "a"]


def test_every_race_says_what_it_holds_for():
    text = worth(race(seeds=2), [])
    assert "this task, 20 steps and entries tuned by 3 trials at 1 seed;" in text
    assert notes(race(seeds=1), grid())[-1] == worth(race(seeds=1), grid())


@pytest.mark.parametrize(
    ("losses", "said"),
    [((2.0, 1.0, 3.0), "by 3 trials at"), ((1.0, 2.0, 3.0), "by 3 trials and 2 more, as a best")],
)
def test_trials_of_an_extension_are_told_apart(losses, said):
    asked = dataclasses.replace(race(seeds=1), protocol=Protocol(seeds=1, extensions=1))
    assert said in worth(asked, grid(losses=losses))


def test_the_table_fits_80_columns_and_marks_ties():
    names = ("a_file_with_a_long_name.py:and_an_optimizer_of_a_long_name", "other")
    losses = ((1.0, 1.5, 1.2), (1.1, 1.4, 1.3))
    asked = race(*names, seeds=3, target=2.0)
    records = [
        one
        for name, own in zip(names, losses, strict=True)
        for one in [*grid(name), *reported(name, own)]
    ]
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(table(asked, records))
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 80
    (other,) = (n for n, line in enumerate(lines) if line.strip().startswith("other ="))
    assert lines[other].split()[2:5] == ["1.267", "±", "0.38"]
    assert lines[other + 1].strip() == "rate 0.1"
