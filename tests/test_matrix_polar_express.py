"""The generator of Polar Express against the published tables and against the theory."""

import numpy as np
import pytest
from matrix_oracles import scalar_map

from gradsmith.matrix import SCHEDULES, polar_express
from gradsmith.matrix.polar.polar_express import minimax_quintic, minimax_steps

# Amsel et al. 2025, arXiv:2505.16932, implementation 1.
PUBLISHED = [
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
]


def grid(low):
    return np.concatenate([np.geomspace(low, 1, 200_001), np.linspace(low, 1, 200_001)])


def test_it_reproduces_the_published_table():
    triples = minimax_steps(8, 1e-3, cushion=0.02407327424182761, recentre=True)
    np.testing.assert_allclose(triples[:6], PUBLISHED[:6], atol=1e-12)
    # The last two are Taylor's polynomial but for what rounding leaves of the interval.
    np.testing.assert_allclose(triples[6], PUBLISHED[6], atol=1e-9)
    np.testing.assert_allclose(triples[7], PUBLISHED[7], atol=1e-8)


def test_it_reproduces_the_table_with_safety_inside():
    triples = minimax_steps(5, 1e-3, cushion=0.02, safety=1.02)
    expected = SCHEDULES["polar_express_1.02"].coefficients
    np.testing.assert_allclose(triples, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("steps", "lower", "error"),
    [(3, 1e-2, 0.269), (4, 1e-2, 0.0125), (4, 1e-3, 0.546), (5, 1e-3, 0.1134), (6, 1e-4, 0.353)],
)
def test_without_belts_the_error_is_the_minimax_error_and_is_attained_at_both_ends(
    steps, lower, error
):
    out = scalar_map(minimax_steps(steps, lower, cushion=0.0), grid(lower))
    np.testing.assert_allclose(1 - out.min(), error, rtol=4e-3)
    np.testing.assert_allclose(out.max() - 1, 1 - out.min(), atol=1e-6)


def test_a_quintic_errs_equally_at_four_points():
    low, high = 0.1, 1.7
    x = np.linspace(low, high, 200_001)
    error = scalar_map([minimax_quintic(low, high)], x) - 1
    turns = np.flatnonzero(np.diff(np.sign(np.diff(error)))) + 1
    extrema = error[[0, *turns, -1]]
    np.testing.assert_allclose(extrema, extrema[0] * np.array([1, -1, 1, -1]), rtol=1e-6)


@pytest.mark.parametrize("steps", [3, 5, 7])
@pytest.mark.parametrize("lower", [1e-4, 1e-3, 1e-2])
def test_a_schedule_keeps_its_band_even_a_little_above_one(steps, lower):
    schedule = polar_express(steps, lower)
    out = scalar_map(schedule.coefficients, grid(lower) / schedule.slack)
    np.testing.assert_allclose((out.min(), out.max()), schedule.band, atol=1e-4)
    assert schedule.lower == lower
    above = scalar_map(schedule.coefficients, np.linspace(1, 1.009, 1001) / schedule.slack)
    assert above.max() <= schedule.band[1] + 1e-6
    assert above.min() >= schedule.band[0] - 1e-6


def test_more_steps_and_larger_lower_bounds_are_closer_to_one():
    error = lambda *args: max(abs(end - 1) for end in polar_express(*args).band)
    assert error(4, 1e-3) > error(5, 1e-3) > error(6, 1e-3)
    assert error(5, 1e-4) > error(5, 1e-3) > error(5, 1e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps >= 1, got 0"),
        ({"lower": 0.0}, "0 < lower < 1, got 0.0"),
        ({"lower": 1.0}, "0 < lower < 1, got 1.0"),
        ({"cushion": 1.0}, "0 <= cushion < 1, got 1.0"),
        ({"safety": 0.9}, "safety >= 1, got 0.9"),
    ],
    ids=str,
)
def test_what_makes_no_schedule_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        polar_express(**arguments)
