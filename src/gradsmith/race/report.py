"""The report of a race: one HTML file that needs nothing else, and the curves as an image."""

import html
import json
import string
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from .folder import replace_bytes
from .plots import curves_png
from .protocol import Race, written
from .records import Record
from .rows import rows
from .series import Series, curves, sweeps, window
from .table import cells, headings, notes


def write_report(race: Race, records: list[Record], path: Path) -> list[Path]:
    """Write `curves.png` and `report.html` in the folder `path`; return both paths.

    The page shows the table of the terminal, the curves with a figure under the mouse, every run,
    the configuration and the versions. It loads nothing from anywhere.
    """
    image, page = path / "curves.png", path / "report.html"
    replace_bytes(page, _page(race, records).encode())
    replace_bytes(image, curves_png(race, records))
    return [image, page]


def _page(race: Race, records: list[Record]) -> str:
    from plotly.offline import get_plotlyjs

    task, first, trials = race.task, records[0], race.first_trials(race.entries[0])
    template = resources.files("gradsmith.race").joinpath("report.html").read_text(encoding="utf-8")
    return string.Template(template).substitute(
        title=html.escape(f"Race on {task.name}"),
        subtitle=html.escape(
            f"{len(race.entries)} optimizers, each tuned by {len(trials)} "
            f"trials and reported at {race.protocol.seeds} other seeds; {task.steps} steps of "
            f"{task.examples_per_step:,} {task.unit}"
        ),
        table=_table(headings(race), (cells(row) for row in rows(race, records))),
        notes="".join(f"<li>{html.escape(note)}</li>" for note in notes(race, records)),
        runs=_table(
            ["entry", "settings", "seed", "outcome", f"steps to {task.target:g}", "seconds"],
            map(_run_cells, records),
        ),
        config=html.escape(json.dumps(first.config, indent=2)),
        versions=html.escape(", ".join(f"{k} {v}" for k, v in first.versions.items())),
        plotly=get_plotlyjs(),
        plots=_script(_plots(race, records)),
    )


def _table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    def line(texts: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"

    body = "".join(line(texts, "td") for texts in lines)
    return f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>"


def _run_cells(record: Record) -> list[str]:
    return [
        record.entry,
        written(record.settings),
        str(record.seed) if record.seed >= 0 else f"tuning {-record.seed}",
        record.outcome(),
        "not reached" if record.steps_to_target is None else str(record.steps_to_target),
        f"{record.timing['run']:.1f}",
    ]


def _plots(race: Race, records: list[Record]) -> dict[str, Any]:
    target = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": race.task.target,
        "y1": race.task.target,
        "line": {"color": "gray", "width": 1, "dash": "dot"},
    }
    loss = {"title": {"text": "validation loss"}}
    rates = {
        "title": {"text": "learning rate"},
        "type": "log",
    }
    along, over = curves(race, records), sweeps(race, records)
    steps = {"title": {"text": "step"}}
    return {
        "curves": {
            "data": _traces(along, "lines"),
            "layout": {
                "xaxis": steps,
                "yaxis": {**loss, "range": window(along)},
                "shapes": [target],
            },
        },
        "sweeps": {
            "data": _traces(over, "lines+markers"),
            "layout": {"xaxis": rates, "yaxis": loss},
        },
    }


def _traces(shown: list[Series], mode: str) -> list[dict[str, Any]]:
    """The lines of a plot; the lines of one entry share a legend, and are hidden together."""
    entries = [series.entry for series in shown]
    return [
        {
            "x": series.x,
            "y": series.y,
            "name": series.entry,
            "legendgroup": series.entry,
            "showlegend": entries.index(series.entry) == number,
            "mode": mode,
            "line": {"color": series.colour},
            "hovertemplate": f"{series.label}<br>%{{x:,}}: %{{y:.4f}}<extra></extra>",
        }
        for number, series in enumerate(shown)
    ]


def _script(value: Any) -> str:
    """JSON that may stand inside a script element, whatever strings it holds."""
    return json.dumps(value).replace("<", "\\u003c")
