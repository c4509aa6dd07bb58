"""Intervals, tests and profiles agree with tables, closed forms, plain loops and simulations."""

import itertools
import math

import numpy as np
import pytest

from gradsmith.race import inference


def test_students_interval_is_that_of_the_table():
    """t(0.975, 9) = 2.262157 from the printed tables; differences with mean 3, deviation 2."""
    d = np.array([1, -1, 1, -1, 1, -1, 1, -1, 1, -1]) * 2 * math.sqrt(0.9) + 3
    found = inference.paired(d.tolist())
    half = 2.262157 * 2 / math.sqrt(10)
    np.testing.assert_allclose((found.mean, found.deviation), (3, 2), rtol=1e-12)
    np.testing.assert_allclose(found.interval, (3 - half, 3 + half), rtol=1e-6)


def test_two_pairs_have_the_p_value_of_the_cauchy_distribution():
    found = inference.paired([1.0, 3.0])  # t = 2 with one degree of freedom
    assert found.p == pytest.approx(1 - 2 * math.atan(2) / math.pi)


def test_students_p_value_of_two_degrees_of_freedom_is_the_closed_form():
    found = inference.paired([1.0, 2.0, 3.0])
    t = 2 / (1 / math.sqrt(3))
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t * t))


def test_a_plain_loop_makes_the_same_bootstrap_within_its_noise():
    d = np.random.default_rng(1).exponential(size=20)
    rng = np.random.default_rng(2)
    means = sorted(sum(rng.choice(d, 20)) / 20 for _ in range(4000))
    found = inference.paired(d.tolist()).bootstrap
    np.testing.assert_allclose(found, (means[100], means[3900]), rtol=0.05)


def test_one_pair_shows_nothing():
    found = inference.paired([5.0])
    assert (found.p, found.pairs) == (1.0, 1)
    assert math.isnan(found.interval[0])


def test_the_same_difference_every_time_is_certain_and_none_is_none():
    assert inference.paired([0.5, 0.5]).p == 0.0
    assert inference.paired([0.0, 0.0]).p == 1.0


def test_students_test_keeps_its_level():
    rng = np.random.default_rng(0)
    called = sum(inference.paired(rng.normal(size=3).tolist()).p < 0.05 for _ in range(2000))
    assert abs(called / 2000 - 0.05) < 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_holm_is_the_closed_test_of_bonferroni():
    """Adjusted by closing: the largest, over all subsets that hold it, of size times smallest."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.uniform(0, 0.3, 4).tolist()
        subsets = [s for k in range(1, 5) for s in itertools.combinations(range(4), k)]
        expected = [
            max(min(1, len(s) * min(p[i] for i in s)) for s in subsets if j in s) for j in range(4)
        ]
        np.testing.assert_allclose(inference.holm(p), expected)


def test_so_many_seeds_show_a_difference_nine_times_in_ten():
    n = inference.seeds_to_show(1.0, 1.0)
    rng = np.random.default_rng(0)
    d = rng.normal(1.0, 1.0, (20_000, n))
    t = d.mean(axis=1) / (d.std(axis=1, ddof=1) / math.sqrt(n))
    critical = 2.178813  # of 12 degrees of freedom
    assert n == 13
    assert np.mean(np.abs(t) > critical) == pytest.approx(0.911, abs=0.01)
    assert inference.seeds_to_show(1.0, 1.0, 0.01) > n
    assert inference.seeds_to_show(1.0, 0.0) == 2


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([4.0, 3.0, 2.0], 15.0),
        ([4.0, 2.5, 1.0], 10.0),
        ([2.0, 1.0, 1.0], 0.0),
        ([4.0, None, 2.0], 20.0),
        ([4.0, 3.0, 2.6], None),
        ([4.0, 2.0, 4.0], 7.5),
    ],
)
def test_a_crossing_lies_on_the_straight_line_between_two_points(losses, expected):
    assert inference.crossing([0, 10, 20], losses, 2.5) == expected


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 9, 20])
def test_the_interval_of_a_median_has_the_confidence_that_it_claims(n):
    """By counting all ways in which the times may lie on the sides of the true median."""
    times = [float(i) for i in range(1, n + 1)]
    interval, claimed = inference.median_time(times)
    low, high = times.index(interval.low), times.index(interval.high)
    below = [math.comb(n, k) / 2**n for k in range(n + 1)]  # k times below the median
    covered = sum(p for k, p in enumerate(below) if low < k <= high)
    assert claimed == pytest.approx(covered)
    assert claimed >= 0.95 or (low, high) == (0, n - 1)
    assert interval.estimate == (n + 1) / 2


def test_censored_times_are_longer_than_all_others_and_not_left_out():
    interval, _ = inference.median_time([None, 10.0, 20.0])
    assert (interval.estimate, interval.high) == (20.0, math.inf)
    interval, _ = inference.median_time([None, None, 10.0, 20.0])
    assert interval.estimate == math.inf


def test_a_performance_profile_counts_tasks_as_a_plain_loop_does():
    rng = np.random.default_rng(0)
    times = {name: rng.exponential(size=6).tolist() for name in "abc"}
    times["a"][0] = None
    times["a"][1] = times["b"][1] = times["c"][1] = None  # solved by nobody
    factors = [1.0, 1.5, 3.0]
    found = inference.performance_profile(times, factors)
    for name, factor in itertools.product("abc", factors):
        within = 0
        for task in range(6):
            solved = [times[other][task] for other in "abc" if times[other][task] is not None]
            own = times[name][task]
            within += own is not None and own <= factor * min(solved) * (1 + 1e-12)
        assert found[name][factors.index(factor)] == within / 6


def test_algoperfs_score_is_the_mean_height():
    assert inference.algoperf_score([1.0, 4.0], [0.5, 0.5]) == 0.5
    assert inference.algoperf_score([1.0, 2.0, 4.0], [0.0, 1.0, 1.0]) == pytest.approx(2.5 / 3)


@pytest.mark.parametrize(
    ("losses", "met"),
    [([3.2759], True), ([3.2761], False), ([3.2779] * 4, True), ([3.2781] * 4, False)],
)
def test_the_optimization_tracks_rule(losses, met):
    assert inference.optimization_track(losses, 3.28)[0] == met
