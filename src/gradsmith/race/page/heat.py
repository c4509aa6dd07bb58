"""Maps of numbers in colours, as images of a pixel a number inside an SVG."""

import base64
import html
import itertools
import math
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from ..readings import Reading
from ..shades import Shades
from .svg import tick_text

# From dark to light in equal steps to the eye (viridis of matplotlib, CC0), and from blue over
# white to red (RdBu of ColorBrewer): both for people who see no red or no green as well.
SEQUENCE = ("440154", "414487", "2a788e", "22a884", "7ad151", "fde725")
DIVERGING = ("2166ac", "67a9cf", "d1e5f0", "f7f7f7", "fddbc7", "ef8a62", "b2182b")

COLOURS = 24  # of a map: as many as an eye tells apart, and few bytes
WIDTH, NAMES, GAP, ROW, HEAD = 840, 176, 12, 15, 40


class Map(NamedTuple):
    """One map: readings by layer, and which colours they have."""

    name: str
    layers: dict[str, Reading]
    shades: Shades
    colours: Sequence[str]


def heat_maps(
    name: str, maps: Sequence[Map], axis: str, title: str, words: str, named: dict[str, str]
) -> str:
    """Maps side by side, a layer a row in all of them.

    Args:
        name: Of the figure in the page.
        maps: At least one.
        axis: What runs from left to right.
        title: Of the figure, for who cannot see it.
        words: What it shows, with its numbers.
        named: Where in the page the same names of layers and colours stand already; grows.
    """
    layers = list(dict.fromkeys(layer for one in maps for layer in one.layers))
    wide = (WIDTH - NAMES) / len(maps) - GAP
    below = HEAD + ROW * len(layers)
    body, ends = [_names(name, layers, named)], ("", "")
    for number, one in enumerate(maps):
        left = NAMES + number * (wide + GAP)
        at = sorted({at for own in one.layers.values() for at in own.at})
        body += [
            f'<text x="{left:.1f}" y="12">{_start(one.name, int(wide / 6.5))}</text>',
            _image(_pixels(one, layers, at), one.colours, left, HEAD, wide, below - HEAD),
        ]
        if ends != (ends := (f"{axis} {at[0]}", str(at[-1]))):
            body.append(_ends(left, wide, below + 14, *ends))
    start = 0
    for scale, some in itertools.groupby(maps, lambda one: (one.shades, one.colours)):
        count = len(list(some))
        left, across = NAMES + start * (wide + GAP), count * (wide + GAP) - GAP
        body.append(_bar(f"{name}-colours-{start}", *scale, named, left, across))
        start += count
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(title)}, maps">'
        f'<svg class="heat" id="{name}" viewBox="0 0 {WIDTH} {below + 20}" role="img" '
        f'aria-labelledby="{name}-title {name}-words"><title id="{name}-title">'
        f'{html.escape(title)}</title><desc id="{name}-words">{html.escape(words)}</desc>'
        f"{''.join(body)}</svg></div>"
    )


def _names(name: str, layers: Sequence[str], named: dict[str, str]) -> str:
    """The names of the rows, once in a page."""
    text = "".join(
        f'<text x="{NAMES - GAP}" y="{HEAD + ROW * n + 11}" text-anchor="end">'
        f"{_end(layer, 26)}</text>"
        for n, layer in enumerate(layers)
    )
    if text in named:
        return f'<use href="#{named[text]}"/>'
    named[text] = f"{name}-layers"
    return f'<g class="layers" id="{named[text]}">{text}</g>'


def _ends(left: float, wide: float, y: int, first: str, last: str) -> str:
    return (
        f'<text class="tick" x="{left:.1f}" y="{y}">{first}</text>'
        f'<text class="tick" x="{left + wide:.1f}" y="{y}" text-anchor="end">{last}</text>'
    )


def _bar(
    name: str,
    shades: Shades,
    colours: Sequence[str],
    named: dict[str, str],
    left: float,
    wide: float,
) -> str:
    """All colours, once over the maps that have them, with the numbers of the first and the last.

    And with that in the middle, where it is not half-way between them. The gradient is written once
    in a page.
    """
    key, made, middle = "".join(colours), "", ""
    if key not in named:
        named[key] = name
        last = len(colours) - 1
        stops = "".join(
            f'<stop offset="{n / last:.3g}" stop-color="#{one}"/>' for n, one in enumerate(colours)
        )
        made = f'<linearGradient id="{name}">{stops}</linearGradient>'
    if shades.in_words():
        at = f'x="{left + wide / 2:.1f}" y="35" text-anchor="middle"'
        middle = f'<text class="tick" {at}>{_briefly(shades.number(0.5))}</text>'
    return (
        f'{made}<rect x="{left:.1f}" y="17" width="{wide:.1f}" height="6" '
        f'fill="url(#{named[key]})"/>{_ends(left, wide, 35, *map(_briefly, shades[:2]))}{middle}'
    )


def _briefly(number: float) -> str:
    small = 0 < abs(number) < 0.01
    return tick_text(float(f"{number:.2g}")) if not small else f"{number:.1e}".replace("e-0", "e-")


def _pixels(one: Map, layers: Sequence[str], at: Sequence[int]) -> list[list[int]]:
    rows = []
    for layer in layers:
        own = one.layers.get(layer, Reading([], []))
        values = dict(zip(own.at, own.value, strict=True))
        rows.append([_pixel(one.shades, values.get(step)) for step in at])
    return rows


def _pixel(shades: Shades, value: float | None) -> int:
    """The number of the colour; 0 where there is nothing to colour."""
    share = math.nan if value is None else shades(value)
    return 0 if math.isnan(share) else _number(share)


def _number(share: float) -> int:
    """The number of a colour, from 1."""
    return 1 + round(min(1.0, max(0.0, share)) * (COLOURS - 1))


def colour(share: float, colours: Sequence[str]) -> bytes:
    """Red, green and blue at a share of the way.

    Examples:
        >>> list(colour(0.5, ("000000", "ff0000")))
        [128, 0, 0]
    """
    at = share * (len(colours) - 1)
    lower = min(int(at), len(colours) - 2)
    one, other = bytes.fromhex(colours[lower]), bytes.fromhex(colours[lower + 1])
    mixed = (round(a + (at - lower) * (b - a)) for a, b in zip(one, other, strict=True))
    return bytes(mixed)


def _image(
    rows: Sequence[Sequence[int]],
    colours: Sequence[str],
    x: float,
    y: int,
    width: float,
    height: int,
) -> str:
    palette = [colour(n / (COLOURS - 1), colours) for n in range(COLOURS)]
    content = base64.b64encode(png(rows, palette)).decode()
    return (
        f'<image x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" '
        f'preserveAspectRatio="none" href="data:image/png;base64,{content}"/>'
    )


def png(rows: Sequence[Sequence[int]], palette: Sequence[bytes]) -> bytes:
    """An image whose pixels are numbers of colours, from 1, or 0 for nothing.

    PNG, https://www.w3.org/TR/png: a palette (11.2.3), each number as the difference to the one on
    its left (9.2, "Sub"), which neighbours that are alike make short.
    """
    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 3, 0, 0, 0)
    lines = (bytes((b - a) % 256 for a, b in itertools.pairwise((0, *row))) for row in rows)
    pixels = zlib.compress(b"".join(b"\1" + line for line in lines), 9)
    colours = b"".join((bytes(3), *palette))
    chunks = (
        (b"IHDR", head),
        (b"PLTE", colours),
        (b"tRNS", b"\0"),
        (b"IDAT", pixels),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def _end(text: str, most: int) -> str:
    """As much of the end of a name as fits: layers differ there."""
    return html.escape(text if len(text) <= most else f"…{text[1 - most :]}")


def _start(text: str, most: int) -> str:
    return html.escape(text if len(text) <= most else f"{text[: most - 1]}…")
