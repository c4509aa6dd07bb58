"""A tree as nested rectangles whose areas are numbers, as SVG."""

import html
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ..style import style
from .svg import Number, dashed, number

WIDTH, HEIGHT = 840, 460  # in units of which letters are 12 high
HEAD, LETTER = 16, 7.2  # of the name of a group; the width of a letter


class Leaf(NamedTuple):
    """One leaf.

    Args:
        path: Where it is, `/` between the names.
        area: At least 0; what has none is not drawn.
        hue: Whose colour it has.
        words: What is said of it.
    """

    path: str
    area: Number
    hue: int
    words: str


class Box(NamedTuple):
    """A rectangle."""

    x: Number
    y: Number
    width: Number
    height: Number


def treemap(name: str, leaves: Sequence[Leaf], title: str, words: str) -> str:
    """All leaves in their groups; each tells its words to a pointer.

    Args:
        name: Of the figure in the page.
        leaves: At least one has an area.
        title: Of the figure, for who cannot see it.
        words: What it shows, with its numbers.
    """
    tree = [(leaf.path.split("/"), leaf) for leaf in leaves if leaf.area > 0]
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(title)}, map">'
        f'<svg class="heat" id="{name}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="{name}-title {name}-words"><title id="{name}-title">'
        f'{html.escape(title)}</title><desc id="{name}-words">{html.escape(words)}</desc>'
        f"{_inside(tree, Box(0, 0, WIDTH, HEIGHT))}</svg></div>"
    )


Tree = list[tuple[list[str], Leaf]]  # the names that are left of each path


def _inside(tree: Tree, box: Box, above: str = "") -> str:
    """What is in a box; `above` is the name of a group that has no head of its own."""
    groups: dict[str, Tree] = {}
    for path, leaf in tree:
        groups.setdefault(path[0], []).append((path[1:], leaf))
    if len(groups) == 1 and tree[0][0][1:]:  # a name that tells nothing apart
        return _inside([(path[1:], leaf) for path, leaf in tree], box, above)
    ordered = sorted(groups.items(), key=lambda item: -_area(item[1]))
    boxes = squarified([_area(below) for _, below in ordered], box)
    return "".join(
        _group(above + name, below, place)
        for (name, below), place in zip(ordered, boxes, strict=True)
    )


def _group(name: str, below: Tree, box: Box) -> str:
    while len(below) == 1 and below[0][0]:
        name, below = f"{name}/{below[0][0][0]}", [(below[0][0][1:], below[0][1])]
    if len(below) == 1:
        return _leaf(name, below[0][1], box)
    outline = (
        f'<rect class="group" x="{number(box.x)}" y="{number(box.y)}" '
        f'width="{number(box.width)}" height="{number(box.height)}"/>'
    )
    head = HEAD if box.height > 3 * HEAD and box.width > 50 else 0
    edge = 2 if head else 0.5
    text = _text(name, box.x + 4, box.y + 12, box.width) if head else ""
    inner = Box(
        box.x + edge,
        box.y + max(head, edge),
        max(0.0, box.width - 2 * edge),
        max(0.0, box.height - max(head, edge) - edge),
    )
    return outline + text + _inside(below, inner, "" if head else f"{name}/")


def _leaf(name: str, leaf: Leaf, box: Box) -> str:
    text = _text(name, box.x + 4, box.y + 14, box.width) if box.height > 18 else ""
    return (
        f'<g class="e{leaf.hue}"><title>{html.escape(leaf.words)}</title><rect class="area" '
        f'x="{number(box.x)}" y="{number(box.y)}" width="{number(box.width)}" '
        f'height="{number(box.height)}"{dashed(style(leaf.hue))}/>{text}</g>'
    )


def _text(text: str, x: Number, y: Number, width: Number) -> str:
    """As much of a name as fits; nothing where that says nothing."""
    most = int((width - 6) / LETTER)
    if most < min(4, len(text)):
        return ""
    shown = text if len(text) <= most else f"{text[: most - 1]}…"
    return f'<text x="{number(x)}" y="{number(y)}">{html.escape(shown)}</text>'


def _area(tree: Tree) -> Number:
    return sum(leaf.area for _, leaf in tree)


def squarified(areas: Sequence[Number], box: Box) -> list[Box]:
    """Rectangles of these areas that fill the box, in this order, as square as rows allow.

    Bruls, Huizing and van Wijk, Squarified treemaps, 2000, doi:10.1007/978-3-7091-6783-0_4.

    Args:
        areas: Above 0, the largest first; their sum fills the box.
        box: What is filled.

    Examples:
        >>> [tuple(box) for box in squarified([2.0, 1.0, 1.0], Box(0, 0, 4, 2))]
        [(0, 0.0, 2.0, 2.0), (2.0, 0.0, 2.0, 1.0), (2.0, 1.0, 2.0, 1.0)]
    """
    found: list[Box] = []
    left = list(areas)
    while left:
        short = min(box.width, box.height)
        unit = box.width * box.height / sum(left)
        count = 1
        while count < len(left) and _worst(left[: count + 1], unit, short) <= _worst(
            left[:count], unit, short
        ):
            count += 1
        row, left = left[:count], left[count:]
        deep = sum(row) * unit / short if short else 0.0
        ends = [0.0, *itertools.accumulate(short * one / sum(row) for one in row)]
        if box.width >= box.height:
            found += [Box(box.x, box.y + a, deep, b - a) for a, b in itertools.pairwise(ends)]
            box = Box(box.x + deep, box.y, max(0.0, box.width - deep), box.height)
        else:
            found += [Box(box.x + a, box.y, b - a, deep) for a, b in itertools.pairwise(ends)]
            box = Box(box.x, box.y + deep, box.width, max(0.0, box.height - deep))
    return found


def _worst(row: Sequence[Number], unit: Number, short: Number) -> Number:
    """The longest side over the shortest of the rectangles of a row along the short side."""
    if not short or not unit:
        return 1.0
    total = sum(row) * unit
    return max(short**2 * max(row) * unit / total**2, total**2 / (short**2 * min(row) * unit))
