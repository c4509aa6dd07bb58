"""Figures as SVG: no library, no script, colours from the page. `report.js` redraws the curves.

Both draw the same from the same numbers; tests/test_report_browser.py compares them.
"""

import html
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..series import Cost, Curves, Line, Sensitivity, finite, over_a_decade, window
from ..style import Style, style

WIDTH, HEIGHT = 420, 270  # of a figure, in units of which its letters are 12 high
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 24, 40
Number = int | float


class Scale(NamedTuple):
    """From a number to a place: `low` lies at `start`, `high` at `end`."""

    low: Number
    high: Number
    start: Number
    end: Number
    logarithmic: bool = False

    def __call__(self, number: Number) -> float:
        """Where a number lies."""
        low, high, at = self.low, self.high, number
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return self.start + (at - low) / (high - low) * (self.end - self.start)


def scale(
    values: Iterable[Number],
    start: Number,
    end: Number,
    logarithmic: bool = False,
    margin: Number = 0,
) -> Scale:
    """A scale that all values fit in, with a margin in shares of their range."""
    numbers = list(values) or [1.0]
    low, high = min(numbers), max(numbers)
    if low == high:
        spread = abs(low) / 10 or 1.0
        low, high = (low / 1.1, high * 1.1) if logarithmic else (low - spread, high + spread)
    if logarithmic:
        ratio = (high / low) ** margin
        return Scale(low / ratio, high * ratio, start, end, True)
    return Scale(low - margin * (high - low), high + margin * (high - low), start, end)


def ticks(low: Number, high: Number, logarithmic: bool = False) -> list[float]:
    """Round numbers from `low` to `high`, about five.

    Examples:
        >>> ticks(0.0, 10.0), ticks(0.002, 0.3, logarithmic=True)
        ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [0.01, 0.1])
        >>> ticks(1.0, 8.0, logarithmic=True)
        [1.0, 2.0, 5.0]
    """
    if logarithmic and high / low >= 5:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digits in ((1,), (1, 2, 5)):
            found = [d * 10.0**power for power in powers for d in digits]
            found = [number for number in found if low <= number <= high]
            if len(found) >= 2:
                every = math.ceil(len(found) / 6)
                return found[::every]
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]


def tick_text(number: Number) -> str:
    """A number at an axis.

    Examples:
        >>> tick_text(0.0), tick_text(2500.0), tick_text(1e-05), tick_text(2e6)
        ('0', '2500', '1e-5', '2e6')
    """
    text = f"{number:.6g}"
    mantissa, e, power = text.partition("e")
    return f"{mantissa}e{int(power)}" if e else text


def line_chart(name: str, shown: Curves, title: str, words: str) -> str:
    """The curves against the steps, with bands, markers and the target.

    Args:
        name: Of the figure in the page.
        shown: The curves.
        title: Of the figure, for who cannot see it.
        words: What it shows, with its numbers.
    """
    x = scale((v for line in shown.lines for v in line.x["steps"]), LEFT, WIDTH - RIGHT)
    low, high = window(shown.lines)
    y = scale((low, high), HEIGHT - BOTTOM, TOP, shown.logarithmic, margin=0.05)
    body = [
        f'<clipPath id="{name}-clip"><rect x="{LEFT}" y="{TOP - 4}" width="{WIDTH - LEFT - RIGHT}" '
        f'height="{HEIGHT - TOP - BOTTOM + 8}"/></clipPath>',
        f'<g class="axes">{axes(x, y, "step", f"{shown.kind} loss")}</g>',
        f'<g clip-path="url(#{name}-clip)">',
        _target(shown.target, y),
    ]
    body += [_curve(line, x, y) for line in shown.lines]
    body += ['</g><path class="cursor" d=""/>']
    return figure(name, "".join(body), title, words)


def _target(target: float | None, y: Scale) -> str:
    if target is None:
        return ""
    there = y.low <= target <= y.high
    at = number(y(target)) if there else "-9"
    return f'<path class="target" d="M{LEFT} {at}H{WIDTH - RIGHT}"/>'


def _curve(line: Line, x: Scale, y: Scale) -> str:
    tuning = " tuning" if line.tuning else ""
    return (
        f'<g class="e{line.entry}{tuning}"><path class="band" d="{band(line, x, y)}"/>'
        f'<path class="line" d="{path(line.x["steps"], line.middle, x, y)}"'
        f"{dashed(style(line.entry))}/>"
        f'<path class="marks" d="{marks(line, x, y)}"/></g>'
    )


def path(xs: Sequence[float], ys: Sequence[float | None], x: Scale, y: Scale) -> str:
    """A line through the points, with a gap where there is no number."""
    parts, pen = [], "M"
    for at, value in zip(xs, ys, strict=True):
        if value is None or not _fits(y, value):
            pen = "M"
        else:
            parts.append(f"{pen}{number(x(at))} {number(y(value))}")
            pen = "L"
    return "".join(parts)


def band(line: Line, x: Scale, y: Scale) -> str:
    """The area between the lowest and the highest seed; nothing for a single one."""
    if line.low == line.high:
        return ""
    points = [
        (x(at), y(low), y(high))
        for at, low, high in zip(line.x["steps"], line.low, line.high, strict=True)
        if low is not None and high is not None and _fits(y, low)
    ]
    there = "L".join(f"{number(at)} {number(high)}" for at, _, high in points)
    back = "L".join(f"{number(at)} {number(low)}" for at, low, _ in reversed(points))
    return f"M{there}L{back}Z" if points else ""


def marks(line: Line, x: Scale, y: Scale) -> str:
    """The marker of the entry at three points or so, each entry at others."""
    every = max(1, len(line.middle) // 3)
    shape = style(line.entry).marker
    return "".join(
        f"M{number(x(line.x['steps'][n]))} {number(y(value))}{_relative(shape)}"
        for n, value in enumerate(line.middle)
        if n % every == (line.entry + every - 1) % every and value is not None and _fits(y, value)
    )


def _relative(shape: str) -> str:
    """A marker's path, to be drawn where the pen is: its first point from there."""
    return f"m{shape[1:]}"


def _fits(y: Scale, value: float) -> bool:
    return not y.logarithmic or value > 0


def points_chart(name: str, shown: Sensitivity, title: str, words: str) -> str:
    """All trials over one setting; the choice in a ring, diverged ones on the upper edge."""
    x = scale(
        [v for one in shown.tried for v in one.x] if not shown.labels else range(len(shown.labels)),
        LEFT + 8,
        WIDTH - RIGHT - 8,
        shown.logarithmic,
        margin=0.3 if shown.labels else 0.02,
    )
    losses = [v for one in shown.tried for v in finite(one.y)]
    y = scale(losses, HEIGHT - BOTTOM, TOP + 12, over_a_decade(losses), margin=0.05)
    along = list(enumerate(shown.labels)) or _values(shown, x)
    body = [f'<g class="axes">{axes(x, y, shown.setting, "loss in tuning", along)}</g>']
    for order, one in enumerate(shown.tried):
        aside = min(4.0, 40 / len(shown.tried)) * (order - (len(shown.tried) - 1) / 2)
        shape = _relative(style(one.entry).marker)
        there = [
            (
                number(x(at) + aside),
                number(y(value)) if value is not None else f"{TOP + 2}",
                value,
            )
            for at, value in zip(one.x, one.y, strict=True)
        ]
        dots = "".join(f"M{at} {up}{shape}" for at, up, value in there if value is not None)
        crosses = "".join(
            f"M{at} {up}m-3-3l6 6m0-6l-6 6" for at, up, value in there if value is None
        )
        ring = ""
        if one.chosen is not None:
            at, up, _ = there[one.chosen]
            ring = f'<circle class="ring" cx="{at}" cy="{up}" r="8"/>'
        body.append(
            f'<g class="e{one.entry}"><path class="marks" d="{dots}"/>'
            f'<path class="crosses" d="{crosses}"/>{ring}</g>'
        )
    return figure(name, "".join(body), title, words)


def _values(shown: Sensitivity, x: Scale) -> list[tuple[Number, str]]:
    """The values that were tried, where they are few and far enough apart to be written."""
    values = sorted({value for one in shown.tried for value in one.x})
    places = [x(value) for value in values]
    crowded = any(b - a < 40 for a, b in itertools.pairwise(places))
    return [] if crowded else [(value, tick_text(value)) for value in values]


def bars_chart(name: str, shown: list[Cost], names: Sequence[str], title: str, words: str) -> str:
    """A bar for the step of each entry: the model's part full, the update's hatched."""
    high = 34 * len(shown) + 30
    longest = max(cost.model + cost.update for cost in shown)
    x = scale((0.0, longest * 1e3), 4, WIDTH - 8)
    body = []
    for place, cost in enumerate(shown):
        top, middle, end = 34 * place, x(cost.model * 1e3), x((cost.model + cost.update) * 1e3)
        body.append(
            f'<g class="e{cost.entry}"><text x="4" y="{top + 12}">{html.escape(names[cost.entry])}'
            f'</text><rect class="model" x="4" y="{top + 17}" width="{number(middle - 4)}" '
            f'height="13"/><rect class="update" x="{number(middle)}" y="{top + 17.5}" '
            f'width="{number(max(0.0, end - middle))}" height="12"/></g>'
        )
    at = 34 * len(shown) + 4
    for value in ticks(0.0, x.high):
        place = number(x(value))
        anchor = "start" if value == 0 else "middle" if x(value) < WIDTH - 20 else "end"
        body.append(
            f'<path class="grid" d="M{place} {at}v4"/><text class="tick" x="{place}" y="{at + 16}" '
            f'text-anchor="{anchor}">{tick_text(value)}{" ms" if value == 0 else ""}</text>'
        )
    return figure(name, "".join(body), title, words, high)


def axes(
    x: Scale, y: Scale, x_name: str, y_name: str, along: Sequence[tuple[Number, str]] = ()
) -> str:
    """Lines and numbers of both axes, with their names; `along` says what stands along `x`."""
    along = along or [(at, tick_text(at)) for at in ticks(x.low, x.high, x.logarithmic)]
    parts = [
        f'<path class="grid" d="M{LEFT} {number(y(at))}H{WIDTH - RIGHT}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{number(y(at) + 4)}" text-anchor="end">'
        f"{tick_text(at)}</text>"
        for at in ticks(y.low, y.high, y.logarithmic)
    ]
    parts += [
        f'<path class="grid" d="M{number(x(at))} {HEIGHT - BOTTOM}v4"/>'
        f'<text class="tick" x="{number(x(at))}" y="{HEIGHT - BOTTOM + 17}" '
        f'text-anchor="middle">{html.escape(text)}</text>'
        for at, text in along
    ]
    return "".join(parts) + (
        f'<text class="name" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">'
        f'{html.escape(x_name)}</text><text class="name" x="4" y="12">{html.escape(y_name)}</text>'
    )


def figure(name: str, body: str, title: str, words: str, height: int = HEIGHT) -> str:
    """An SVG that has a title and says its numbers to who cannot see it."""
    return (
        f'<svg id="{name}" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-labelledby="{name}-title {name}-words"><title id="{name}-title">'
        f'{html.escape(title)}</title><desc id="{name}-words">{html.escape(words)}</desc>'
        f"{body}</svg>"
    )


def swatch(entry: int) -> str:
    """A piece of the line of an entry with its marker, for a legend."""
    one = style(entry)
    return (
        f'<svg class="swatch e{entry}" viewBox="0 0 36 12" aria-hidden="true">'
        f'<path class="line" d="M0 6H36"{dashed(one)}/>'
        f'<path class="marks" d="M18 6{_relative(one.marker)}"/></svg>'
    )


def dashed(one: Style) -> str:
    """The attribute that dashes a line; nothing for a full one."""
    return f' stroke-dasharray="{" ".join(map(number, one.dash))}"' if one.dash else ""


def number(value: Number) -> str:
    """A place, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")
