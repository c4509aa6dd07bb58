"""A suite is a race a task, and its profile is that of the medians."""

import dataclasses

import jax.numpy as jnp
import pytest
from race_helpers import parabola, record, together

from gradsmith.race import (
    SUITES,
    TASKS,
    Display,
    Entry,
    Protocol,
    Race,
    RaceError,
    Worker,
    profile,
    run_race,
    run_suite,
)
from gradsmith.race.errors import RaceError as SameError
from gradsmith.race.prepare import prepare
from gradsmith.race.suite import losses_table, profile_notes, profile_table


def race(name, *names, **task):
    import optax

    entries = tuple(Entry(entry, optax.sgd) for entry in names or ("sgd", "same"))
    made = dataclasses.replace(parabola(**task), name=name)
    return Race(made, entries, (0.05, 0.1), Protocol(seeds=1, extensions=0))


def reported(entry, first_below, seeds=(0, 1, 2)):
    """Records of an entry whose curve falls from 1 to 0 at a step; it takes two passes a step."""
    steps = [0, 100, 200, 300]
    losses = [1.0 if step < first_below else 0.0 for step in steps]
    curve = dataclasses.replace(
        record().curve,
        step=steps,
        passes=[2 * step for step in steps],
        training_loss=losses,
        validation_loss=losses,
    )
    return [record(entry, seed=seed, curve=curve) for seed in (-1, *seeds)]


def without_timing(records):
    return [dataclasses.replace(r, timing={}) for r in records]


def test_the_small_suite_names_tasks():
    assert len(SUITES["small"]) >= 8
    assert set(SUITES["small"]) <= TASKS.keys()
    assert not SUITES.keys() & TASKS.keys()


def test_every_race_of_a_suite_is_the_race_alone(tmp_path):
    races = [race("near"), race("far", steps=10)]
    found = run_suite(races, tmp_path, Display())
    for one, own in zip(races, found, strict=True):
        assert without_timing(own) == without_timing(
            run_race(one, tmp_path / one.task.name, Display())
        )
        alone = run_race(one, tmp_path / "alone" / one.task.name, Display())
        assert without_timing(own) == without_timing(alone)


def test_workers_share_a_suite_and_the_last_one_has_all_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr("gradsmith.race.run.POLL_SECONDS", 0.05)
    races = [prepare(race("near")), prepare(race("far", steps=10))]
    alone = run_suite(races, tmp_path / "alone", Display())
    work = lambda number: run_suite(
        races, tmp_path / "shared", Display(), executor=Worker(number, 2)
    )
    ended = together(lambda: work(1), lambda: work(2))
    whole = [without_timing(records) for records in alone]
    assert any([without_timing(records) for records in found] == whole for found in ended)
    for one in races:
        files = {path.name for path in (tmp_path / "shared" / one.race.task.name).glob("rec*")}
        assert files == {"records-1.jsonl", "records-2.jsonl"}


def test_a_profile_counts_the_tasks_within_a_factor_of_the_fastest():
    races = [race(name, "one", "other", target=0.5) for name in ("a", "b", "c", "d")]
    reach = {"one": (100, 200, 300, 999), "other": (200, 200, 200, 999)}
    records = [
        [r for entry, steps in reach.items() for r in reported(entry, steps[task])]
        for task in range(4)
    ]
    found = profile(races, records, (1.0, 2.0, 4.0))
    # The line crosses 0.5 half-way before the step: after 50 or 150 or 250 steps.
    assert found.shares == {"one": [0.5, 0.75, 0.75], "other": [0.5, 0.5, 0.75]}
    assert found.unsolved == ["d"]
    assert found.scores["one"] == pytest.approx((0.625 * 1 + 0.75 * 2) / 3)
    notes = " ".join(profile_notes(found, 4))
    assert "nobody comes to the target of d" in notes
    assert "4 tasks are few: a task more or less moves a share by 25%" in notes


def test_the_table_of_a_profile_has_the_highest_score_first():
    races = [race("a", "slow", "fast", target=0.5)]
    records = [[*reported("slow", 300), *reported("fast", 100)]]
    found = profile_table(profile(races, records), 1)
    assert [str(cell) for cell in found.columns[0].cells] == ["fast", "slow"]


def test_the_losses_of_all_tasks_stand_in_one_table():
    """The best is marked, who may be as good is, and who is worse is not."""

    def ended(entry, *losses):
        return [
            record(entry, seed=-1),
            *(record(entry, seed=n, loss=x) for n, x in enumerate(losses)),
        ]

    races = [race("clear", "a", "b", "c"), race("tie", "a", "b", "c")]
    records = [
        [
            *ended("a", 1.0, 1.1, 1.2),
            *ended("b", 2.0, 2.1, 2.21),
            *ended("c", 3.0, 3.0)[:2],
            record("c", seed=1, diverged_at=5),
        ],
        [*ended("a", 5.0, 5.5, 5.2), *ended("b", 5.1, 5.2, 5.3), *ended("c", 9.1, 9.6, 9.29)],
    ]
    columns = losses_table(races, records).columns
    assert [list(map(str, column.cells)) for column in columns] == [
        ["clear", "tie"],
        ["1.100<", "5.233="],
        ["2.103 ", "5.200="],
        ["diverged", "9.330 "],
    ]


def test_who_ends_above_the_target_is_slower_than_any_factor():
    races = [race("a", "one", "other", target=0.5)]
    half = [*reported("other", 999, (0, 1)), *reported("other", 100, (2,))[1:]]
    found = profile(races, [[*reported("one", 100), *half]], (1.0, 1000.0))
    assert found.shares["other"] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("races", "message"),
    [
        ([], "at least one task"),
        ([race("a"), race("a")], "two tasks are called a"),
        ([race("a"), race("b", "sgd", "another")], "a has same, sgd and b has another, sgd"),
    ],
)
def test_what_is_no_suite_is_refused(races, message, tmp_path):
    with pytest.raises(RaceError, match=message):
        run_suite(races, tmp_path, Display())


def test_nothing_runs_until_every_race_is_possible(tmp_path):
    broken = race("b")
    task = dataclasses.replace(broken.task, selection=jnp.ones(2))
    with pytest.raises(SameError, match="loss of task b"):
        run_suite([race("a"), dataclasses.replace(broken, task=task)], tmp_path, Display())
    assert list(tmp_path.iterdir()) == []
