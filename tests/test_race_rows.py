"""The table says what the records say."""

import dataclasses

import pytest
from race_helpers import race, record

from gradsmith.race import rows
from gradsmith.race.table import cells, headings, notes, worth


def grid(entry="sgd", losses=(3.0, 1.0, 2.0), **more):
    return [
        record(entry, rate, 0, loss=loss, diverged_at=None if loss else 37, **more)
        for rate, loss in zip((0.01, 0.1, 1.0), losses, strict=True)
    ]


def test_a_row_is_the_mean_over_the_seeds_at_the_best_rate():
    (row,) = rows(race(), [*grid(steps_to_target=10), record(seed=1, loss=1.5)])
    assert row.rate == 0.1
    assert row.losses == (1.0, 1.5)
    assert row.loss == 1.25
    assert cells(row)[:3] == ["sgd", "0.1", "1.250 (1.000 to 1.500)"]


@pytest.mark.parametrize(
    ("losses", "on_edge"),
    [((1.0, 2.0, 3.0), True), ((2.0, 1.0, 3.0), False), ((3.0, 2.0, 1.0), True)],
)
def test_a_best_rate_on_the_edge_of_the_grid_is_flagged(losses, on_edge):
    asked, records = race(seeds=1), grid(losses=losses)
    (row,) = rows(asked, records)
    assert row.on_edge == on_edge
    assert cells(row)[1].endswith("*") == on_edge
    assert (
        any("edge of the grid (0.01, 0.1, 1)" in note for note in notes(asked, records)) == on_edge
    )


def test_who_diverges_everywhere_stands_last_and_says_so():
    records = [*grid("bad", (None, None, None)), *grid("good")]
    asked = race("bad", "good", seeds=1)
    good, bad = rows(asked, records)
    assert (good.entry, bad.entry) == ("good", "bad")
    assert cells(bad)[1:4] == ["none", "diverged at every rate", "not reached"]
    assert notes(asked, records)[:3] == [
        f"bad with rate {rate} and seed 0 diverged at step 37" for rate in ("0.01", "0.1", "1")
    ]


def test_a_diverged_seed_at_the_best_rate_is_counted_and_costs_the_place():
    records = [*grid("a"), record("a", seed=1, diverged_at=5), *grid("b", (9.0, 8.0, 9.0))]
    records.append(record("b", seed=1, loss=8.0))
    first, second = rows(race("a", "b"), records)
    assert (first.entry, second.entry) == ("b", "a")
    assert cells(second)[2] == "1 of 2 diverged"


def test_one_seed_has_no_range():
    (row,) = rows(race(seeds=1), grid())
    assert cells(row)[2] == "1.000"
    assert "validation loss, 1 seed" in headings(race(seeds=1))


@pytest.mark.parametrize(
    ("steps", "median", "cell"),
    [
        ((10, 20, 30), 20, "20"),
        ((10, 20, None), 20, "20"),
        ((10, None, None), None, "not reached"),
        ((10, None), None, "not reached"),
        ((10, 15), 12.5, "12.5"),
    ],
)
def test_steps_to_the_target_are_the_median_of_the_seeds(steps, median, cell):
    asked = race(rates=(0.1,), seeds=len(steps))
    (row,) = rows(asked, [record(seed=i, steps_to_target=s) for i, s in enumerate(steps)])
    assert row.steps_to_target == median
    assert cells(row)[3] == cell


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
    one = dataclasses.replace(record(), timing={"run": 1.0, "step": seconds, "update": seconds})
    (row,) = rows(race(rates=(0.1,), seeds=1), [one])
    assert cells(row)[4:] == [text, "100.0%"]


def test_what_an_entry_is_and_more_passes_than_steps_are_noted():
    searched = [
        dataclasses.replace(one, passes={"forward": 60, "backward": 40}) for one in grid("a")
    ]
    asked = race("a", "b", seeds=1)
    first = dataclasses.replace(asked.entries[0], about="2 leaves to search")
    asked = dataclasses.replace(asked, entries=(first, asked.entries[1]))
    said = notes(asked, [*searched, *grid("b")])
    assert said[0] == "a: 2 leaves to search"
    assert said[1].startswith("a takes 3 forward and 2 backward passes through the model in a step")
    assert not any(note.startswith("b ") for note in said)


def test_the_lowest_loss_stands_first():
    records = [*grid("a", (3.0, 2.0, 3.0)), *grid("b"), *grid("c", (3.0, 1.5, 3.0))]
    assert [row.entry for row in rows(race("a", "b", "c", seeds=1), records)] == ["b", "c", "a"]


def test_every_race_says_what_it_is_worth():
    text = worth(race(seeds=2))
    assert text.startswith("This is a demonstration, not evidence: one task, 20 steps, 3 learning")
    assert "five seeds or more" in text
    assert notes(race(seeds=1), grid())[-1] == worth(race(seeds=1))
