"""Every shipped schedule keeps its band, and none runs at a length it is not made for."""

import dataclasses

import numpy as np
import pytest
from matrix_oracles import scalar_map

from gradsmith.matrix import SCHEDULES, Schedule
from gradsmith.matrix.polar.coefficients import schedule_of

ALL = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=lambda schedule: schedule.name)

GRID = np.concatenate([np.geomspace(1e-3, 1, 200_001), np.linspace(1e-3, 1, 200_001)])


def image(schedule, sigma):
    return scalar_map(schedule.coefficients, np.asarray(sigma) / schedule.slack)


@ALL
def test_a_schedule_keeps_the_band_it_promises(schedule):
    out = image(schedule, GRID)
    # The bands are written with four decimals.
    np.testing.assert_allclose((out.min(), out.max()), schedule.band, atol=6e-5)


@pytest.mark.parametrize(
    ("name", "at_08", "at_06", "at_1", "at_001"),
    [
        ("keller", 1.1192039299, 0.7228761686, 0.6964364095, 0.6989170633),
        ("you", 1.0056321944, 1.0186286858, 0.9783455603, 1.0180252250),
        ("polar_express", 0.9760712746, 1.0455742076, 0.8771067674, 1.0540236294),
        ("polar_express_1.02", 0.8782865415, 0.9467875029, 0.9035374202, 0.9967754038),
        ("deepseek_v4", 1.0004563542, 1.0001087906, 1.0000143096, 1.0000191617),
    ],
)
def test_the_maps_hit_published_values(name, at_08, at_06, at_1, at_001):
    # Computed in float64 with NumPy from the published coefficients, independently of this package.
    out = image(SCHEDULES[name], [0.8, 0.6, 1.0, 0.01])
    np.testing.assert_allclose(out, [at_08, at_06, at_1, at_001], atol=1e-9)


@ALL
def test_singular_values_slightly_above_one_stay_bounded(schedule):
    # Rounding of the norm may leave a rank-one matrix with a singular value a little above 1.
    out = image(schedule, np.linspace(1, 1.001, 101))
    assert out.min() > 0
    assert out.max() <= 1.31


@pytest.mark.parametrize("name", [name for name in SCHEDULES if SCHEDULES[name].repeats])
def test_a_schedule_of_repeatable_steps_stays_in_its_band_when_longer(name):
    schedule = SCHEDULES[name]
    for extra in (1, 5):
        steps = schedule.steps(len(schedule.coefficients) + extra)
        out = scalar_map(steps, GRID / schedule.slack)
        assert out.min() >= schedule.band[0] - 6e-5
        assert out.max() <= schedule.band[1] + 6e-5


def test_steps_default_to_the_published_ones():
    for schedule in SCHEDULES.values():
        assert schedule.steps() == schedule.coefficients
        assert schedule.steps(len(schedule.coefficients)) == schedule.coefficients


def test_a_longer_run_repeats_the_last_triple():
    steps = SCHEDULES["deepseek_v4"].steps(12)
    assert steps[:10] == SCHEDULES["deepseek_v4"].coefficients
    assert steps[10:] == ((2.0, -1.5, 0.5),) * 2


def test_a_run_of_equal_steps_may_be_shorter():
    assert SCHEDULES["keller"].steps(3) == ((3.4445, -4.7750, 2.0315),) * 3


@pytest.mark.parametrize(
    ("name", "count"),
    [("you", 4), ("you", 6), ("polar_express", 3), ("polar_express", 8), ("deepseek_v4", 5)],
)
def test_a_misfit_is_refused_never_sliced_or_cycled(name, count):
    with pytest.raises(ValueError, match="neither sliced nor cycled") as raised:
        SCHEDULES[name].steps(count)
    assert name in str(raised.value)
    assert f"steps={count}" in str(raised.value)


@pytest.mark.parametrize("count", [0, -1])
def test_less_than_one_step_is_refused(count):
    with pytest.raises(ValueError, match="at least 1 step"):
        SCHEDULES["keller"].steps(count)


def test_an_unknown_schedule_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match="'jordan'") as raised:
        schedule_of("jordan")
    assert all(name in str(raised.value) for name in SCHEDULES)


def test_a_schedule_of_your_own_passes_through():
    mine = Schedule("mine", ((2.0, -1.5, 0.5),), True, 1.0, (0.0, 1.0), "here")
    assert schedule_of(mine) is mine


def test_a_schedule_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SCHEDULES["keller"].slack = 2.0  # pyright: ignore[reportAttributeAccessIssue]
