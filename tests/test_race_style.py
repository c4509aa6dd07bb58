"""Entries are told apart by everyone, on light and on dark paper."""

import itertools

import numpy as np
import pytest

from gradsmith.race.style import DARK, LIGHT, PAPER, style

# What people see who have no red, or no green, cones: Machado et al. 2009, table 1, severity 1.
SIGHT = {
    "all": np.eye(3),
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour):
    """Of sRGB, IEC 61966-2-1."""
    c = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    x = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(axis=1)
    f = np.where(x > 216 / 24389, np.cbrt(x), (24389 / 27 * x + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one, other):
    """Of WCAG 2.2."""
    light, dark = sorted((XYZ[1] @ linear(c) for c in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("hues", "paper"), [(LIGHT, "light"), (DARK, "dark")])
def test_every_hue_stands_out_from_its_paper(hues, paper):
    assert min(contrast(hue, PAPER[paper]) for hue in hues) >= 3


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("hues", [LIGHT, DARK], ids=["light", "dark"])
def test_hues_differ_for_everyone(hues, sight):
    seen = [lab(np.array(SIGHT[sight]) @ linear(hue)) for hue in hues]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) >= 20


def test_twelve_entries_differ_in_line_and_marker():
    twelve = [style(number) for number in range(12)]
    assert len({one.marker for one in twelve}) == 12
    assert len({one.matplotlib_marker for one in twelve}) == 12
    assert len({(one.light, one.dash) for one in twelve}) == 12
    assert style(12) == style(0)
