"""How twelve entries are told apart: by hue, line and marker, so that no one of them is needed."""

from typing import NamedTuple

# Each at least 3 : 1 against the page, and apart from the others for people who see no red or no
# green: at least 20 units of CIELAB between two of them in Machado's simulation
# (doi:10.1109/TVCG.2009.113), which tests/test_race_style.py computes.
LIGHT = ("#1480DB", "#CE6E0A", "#119669", "#890075", "#673400", "#16161D")
DARK = ("#2D87D6", "#FC762A", "#35B479", "#E59DCC", "#FFEF88", "#F4F6FF")
PAPER = {"light": "#FFFFFF", "dark": "#16181C"}

DASHES = ((), (7.0, 3.0), (2.0, 2.0), (8.0, 2.0, 2.0, 2.0))
# Each a path around the origin, of a size of about 8, and its name in matplotlib.
MARKERS = (
    ("M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z", "o"),
    ("M-3-3h6v6h-6z", "s"),
    ("M0-4l4 7h-8z", "^"),
    ("M0-4.5l3.5 4.5l-3.5 4.5l-3.5-4.5z", "D"),
    ("M0 4l4-7h-8z", "v"),
    ("M-1.3-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z", "P"),
    ("M-4 0l7-4v8z", "<"),
    ("M4 0l-7-4v8z", ">"),
    ("M0-4.5l1.2 3.1l3.3.2l-2.6 2l.9 3.2l-2.8-1.8l-2.8 1.8l.9-3.2l-2.6-2l3.3-.2z", "*"),
    ("M-2-4h4l2 4l-2 4h-4l-2-4z", "h"),
    ("M-1.5-4.5h3v9h-3z", "|"),
    ("M-4.5-1.5h9v3h-9z", "_"),
)


class Style(NamedTuple):
    """How an entry is drawn: a hue on light and on dark paper, a line, a marker."""

    light: str
    dark: str
    dash: tuple[float, ...]
    marker: str  # a path of SVG
    matplotlib_marker: str


def style(number: int) -> Style:
    """That of the entry with this number; after twelve they come again."""
    hue = number % len(LIGHT)
    marker, name = MARKERS[number % len(MARKERS)]
    return Style(LIGHT[hue], DARK[hue], DASHES[number % len(DASHES)], marker, name)
