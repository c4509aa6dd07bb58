"""The figures of a race for papers, by matplotlib: SVG, PDF and PNG, with text as text."""

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .folder import replace_bytes
from .page.inside import FIRST, Layers, shown_runs
from .page.words import name_of
from .readings import read_readings
from .rows import rows
from .series import (
    Cost,
    Curves,
    Sensitivity,
    costs,
    curves,
    finite,
    over_a_decade,
    sensitivities,
    window,
)
from .shades import Shades, shades
from .style import style
from .table import cells, headings
from .told import Told, told
from .typeset import latex, markdown

FORMATS = ("svg", "pdf", "png")
# Text stays text: in an SVG as such, in a PDF as an embedded TrueType font that can be searched.
# Two runs write the same bytes.
SETTINGS: dict[Any, Any] = {"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "gradsmith"}
UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
FEW = 6  # values of a setting that an axis names
SIZE = (5.5, 3.6)  # inches: the width of a text column of a paper


def write_figures(folder: Path, out: Path) -> list[Path]:
    """Write every figure of the race in `folder` as SVG, PDF and PNG, and its table; return where.

    Names begin with that of the folder. Needs matplotlib.

    Raises:
        RaceError: The folder is not that of a race, holds no finished run, or is damaged.
    """
    import matplotlib
    from matplotlib.figure import Figure

    one = told(folder)
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    with matplotlib.rc_context(SETTINGS):
        for name, draw in _drawings(one):
            figure = Figure(figsize=SIZE, layout="constrained")
            draw(figure.subplots())
            if figure.axes[0].get_legend_handles_labels()[0]:
                figure.legend(loc="outside lower center", ncols=3, fontsize="small", handlelength=4)
            for kind in FORMATS:
                image = io.BytesIO()
                figure.savefig(image, format=kind, dpi=200, metadata=UNDATED[kind])
                paths.append(out / f"{folder.name}-{name}.{kind}")
                replace_bytes(paths[-1], image.getvalue())
    table = (headings(one.race), [cells(row) for row in rows(one.race, one.records)])
    caption = f"Race on {one.race.task.name}"
    for kind, text in (("tex", latex(*table, caption)), ("md", markdown(*table, caption))):
        paths.append(out / f"{folder.name}.{kind}")
        replace_bytes(paths[-1], f"{text}\n".encode())
    return paths


def _drawings(one: Told) -> Iterator[tuple[str, Callable]]:
    names = [entry.name for entry in one.race.entries]
    for kind in ("validation", "training"):
        shown = curves(one.race, one.records, kind)
        yield kind, lambda axes, shown=shown: _curves(axes, shown, names)
    for tried in sensitivities(one.race, one.records):
        yield tried.setting, lambda axes, tried=tried: _sensitivity(axes, tried, names)
    yield "cost", lambda axes: _costs(axes, costs(one.race, one.records), names)
    found = read_readings(one.path, shown_runs(one))
    for reading in (name for name in FIRST if name in found):
        values = [
            v for own in found[reading].values() for x in own.values() for v in finite(x.value)
        ]
        common = shades(values) if values else Shades(0.0, 1.0)
        for name, own in found[reading].items():
            title = re.sub(r"\W+", "-", f"{reading}-{name}")
            yield (
                title,
                lambda axes, own=own, reading=reading, common=common: _map(
                    axes, own, reading, common
                ),
            )


def _curves(axes, shown: Curves, names: Sequence[str]) -> None:
    for line in shown.lines:
        one, x = style(line.entry), line.x["steps"]
        middle, low, high = map(_numbers, (line.middle, line.low, line.high))
        every = max(1, len(x) // 3)
        axes.plot(
            x,
            middle,
            color=one.light,
            linestyle=(0, one.dash) if one.dash else "-",
            marker=one.matplotlib_marker,
            markevery=((line.entry + every - 1) % every, every),
            markersize=5,
            linewidth=1.5,
            label=names[line.entry],
        )
        axes.fill_between(x, low, high, color=one.light, alpha=0.18, linewidth=0)
    if shown.target is not None:
        axes.axhline(shown.target, color="0.4", linewidth=1, linestyle=":")
    low, high = window(shown.lines)
    if shown.logarithmic:
        axes.set_yscale("log")
    else:
        margin = 0.05 * (high - low) or 0.05
        axes.set_ylim(low - margin, high + margin)
    _name(axes, "step", f"{shown.kind} loss")


def _sensitivity(axes, shown: Sensitivity, names: Sequence[str]) -> None:
    for one in shown.tried:
        look = style(one.entry)
        axes.plot(
            one.x,
            _numbers(one.y),
            color=look.light,
            linestyle="",
            marker=look.matplotlib_marker,
            markersize=5,
            label=names[one.entry],
        )
        if one.chosen is not None:
            at, loss = one.x[one.chosen], one.y[one.chosen]
            axes.plot([at], [loss], "o", color="black", fillstyle="none", markersize=11)
        lost = [at for at, loss in zip(one.x, one.y, strict=True) if loss is None]
        top = axes.get_xaxis_transform()
        edge = [0.98] * len(lost)
        (crosses,) = axes.plot(lost, edge, "x", color=look.light, transform=top)
        crosses.set_in_layout(False)
    losses = [loss for one in shown.tried for loss in finite(one.y)]
    if over_a_decade(losses):
        axes.set_yscale("log")
    if shown.logarithmic:
        axes.set_xscale("log")
    values = sorted({value for one in shown.tried for value in one.x})
    if shown.labels:
        axes.set_xticks(range(len(shown.labels)), shown.labels)
    elif len(values) <= FEW:
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.set_xticks([], minor=True)
    _name(axes, name_of(shown.setting).removeprefix("the "), "loss in tuning")


def _costs(axes, shown: Sequence[Cost], names: Sequence[str]) -> None:
    places = range(len(shown))
    model = [1e3 * cost.model for cost in shown]
    update = [1e3 * cost.update for cost in shown]
    colours = [style(cost.entry).light for cost in shown]
    axes.barh(places, model, color=colours, label="passes through the model")
    axes.barh(
        places, update, left=model, fill=False, edgecolor=colours, hatch="////", label="update"
    )
    axes.set_yticks(places, [names[cost.entry] for cost in shown])
    axes.invert_yaxis()
    _name(axes, "milliseconds of a step", "")


def _map(axes, layers: Layers, reading: str, shown: Shades) -> None:
    at = sorted({step for own in layers.values() for step in own.at})
    rows = [
        _numbers([dict(zip(own.at, own.value, strict=True)).get(step) for step in at])
        for own in layers.values()
    ]
    image = axes.imshow(rows, aspect="auto", interpolation="nearest", norm=_norm(shown))
    axes.figure.colorbar(image, label=reading.replace("_", " "))
    axes.set_yticks(range(len(layers)), list(layers), fontsize=min(8.0, 200 / len(layers)))
    axes.set_xticks([0, len(at) - 1], [f"{at[0]}", f"{at[-1]}"])
    axes.set_xlabel("step")


def _norm(shown: Shades):
    """The same colours by matplotlib."""
    from matplotlib import colors

    low, high, even_to = shown
    if math.isinf(even_to):
        return colors.Normalize(low, high)
    if even_to == 0:
        return colors.LogNorm(low, high)
    return colors.AsinhNorm(even_to, vmin=low, vmax=high)


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _name(axes, x: str, y: str) -> None:
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
