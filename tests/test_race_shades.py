"""Colours follow the logarithm where single numbers would hide all others, and else do not."""

import math

import numpy as np
import pytest

from gradsmith.race.shades import Shades, shades

RATES = [0.01 * (1 + 0.1 * n) for n in range(20)]  # within a factor of three


def test_numbers_within_a_decade_lie_evenly():
    one = shades([-2.0, -2.5, -3.0, -4.0])
    assert (one.low, one.high, one.even_to) == (-4.0, -2.0, math.inf)
    assert one(-2.5) == 0.75
    assert one.in_words() == ""


def test_positive_numbers_over_decades_lie_by_their_logarithm():
    one = shades([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    assert one.even_to == 0
    np.testing.assert_allclose([one(10.0**n) for n in range(-4, 1)], [0, 0.25, 0.5, 0.75, 1])
    assert math.isnan(one(0.0))
    assert one.in_words() == "colours by the logarithm"


@pytest.mark.parametrize("outliers", [[500.0], [-300.0], [-300.0, 500.0]], ids=str)
def test_outliers_of_either_sign_do_not_hide_the_rest(outliers):
    values = [*RATES, -0.003, 0.0, *outliers]
    one, even = shades(values), Shades(min(values), max(values))
    rest = sorted(RATES)
    assert even(rest[-2]) - even(rest[0]) < 1e-3
    assert one(rest[-2]) - one(rest[0]) > 0.03
    places = [one(value) for value in sorted(values)]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0.0, 1.0)
    assert 0 < one.even_to < 0.02
    assert one.in_words().startswith("colours by the logarithm, but evenly from -0.01")


def test_beyond_the_even_part_each_decade_has_as_many_colours():
    one = Shades(-1e6, 1e6, even_to=1.0)
    steps = np.diff([one(10.0**n) for n in range(2, 7)])
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3)
    assert one(0.0) == 0.5


def test_one_tiny_number_does_not_stretch_the_logarithm():
    assert math.isinf(shades([*RATES, 1e-30]).even_to)


@pytest.mark.parametrize("rest", [[0.0] * 9, [0.5 + 1e-9 * n for n in range(9)]], ids=["0", "0.5"])
def test_where_the_rest_is_all_the_same_nothing_is_stretched(rest):
    assert math.isinf(shades([*rest, 1.0]).even_to)


@pytest.mark.parametrize("even_to", [0.0, 0.02, math.inf])
def test_a_share_leads_back_to_its_number(even_to):
    one = Shades(0.001 if even_to == 0 else -3.0, 70.0, even_to)
    for value in (0.001, 0.5, 30.0, 70.0):
        assert one.number(one(value)) == pytest.approx(value)


def test_a_single_number_has_the_colour_in_the_middle():
    assert shades([2.0])(2.0) == 0.5
