"""The report of one race, in the order of a reader: from the verdict to every run."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..entries import Entry
from ..mesh import Sizes, in_words
from ..protocol import written
from ..records import Record, duration, in_digits
from ..rows import rows
from ..series import AXES, Curves, as_json, costs, curves, sensitivities
from ..space import Range
from ..table import cells, headings, passes, ties, tuned_by, worth
from ..told import Told
from ..trouble import troubles
from ..verdict import lead, verdict
from .inside import inside
from .markup import brief, code, data, folded, items, table
from .svg import bars_chart, line_chart, points_chart, swatch
from .words import name_of, of_costs, of_curves, of_trials


def article(one: Told, place: str, several: bool) -> str:
    """All that is told of one race.

    Args:
        one: What its folder says.
        place: What the names of its parts in the page begin with.
        several: Whether the page tells of other races too.
    """
    race, records = one.race, one.records
    level = 3 if several else 2
    parts = [
        ("trouble", "What went wrong", items(troubles(race, records))),
        ("verdict", "Verdict", _verdict(one)),
        ("entries", "Who is what", _entries(one, level + 1)),
        ("curves", "Curves", _curves(one, place)),
        ("settings", "Settings tried", _settings(one, place)),
        ("cost", "Cost of a step", _cost(one, place)),
        ("inside", "Inside", inside(one, place)),
        ("runs", "Every run", _runs(one)),
        ("protocol", "Protocol and provenance", _protocol(one)),
    ]
    parts = [part for part in parts if part[2]]
    links = "".join(f'<li><a href="#{place}-{name}">{title}</a></li>' for name, title, _ in parts)
    sections = "".join(
        f'<section class="{name}" aria-labelledby="{place}-{name}">'
        f'<h{level} id="{place}-{name}">{title}</h{level}>{content}</section>'
        for name, title, content in parts
    )
    return (
        f'<article id="{place}">{_head(one, several)}<nav aria-label="Parts of '
        f'{html.escape(one.path.name)}"><ul>{links}</ul></nav>{sections}</article>'
    )


def _head(one: Told, several: bool) -> str:
    race = one.race
    said = (
        f"{len(race.entries)} {'entry' if len(race.entries) == 1 else 'entries'}, each tuned "
        f"by {tuned_by(race, one.records)} and reported at {race.protocol.seeds} other "
        f"seed{'s' * (race.protocol.seeds > 1)}; {race.task.steps} steps of "
        f"{race.task.examples_per_step:,} {race.task.unit}{_devices(race.mesh)}"
    )
    title = f"<h2>{html.escape(f'{one.path.name}: {race.task.name}')}</h2>" if several else ""
    return f'{title}<p class="faint">{html.escape(said)}</p>'


def _devices(mesh: Sizes) -> str:
    return f"; each run on {math.prod(mesh.values())} devices, {in_words(mesh)}" if mesh else ""


def _verdict(one: Told) -> str:
    race, records = one.race, one.records
    marks = "= no entry is shown to be better; * at the edge of the learning rates tried"
    lines = [cells(row) for row in rows(race, records)]
    said = [*verdict(race, records), *ties(race, records), *passes(race, records)]
    return (
        f'<p class="lead">{html.escape(lead(race, records))}</p>{items(said)}'
        + table(headings(race), lines, f"Entries, the lowest mean loss first ({marks})")
        + f'<p class="faint">{html.escape(worth(race, records))}</p>'
    )


def _entries(one: Told, level: int) -> str:
    known = one.about.get("entries", {})
    return "".join(
        _entry(one, number, entry, known.get(entry.name, {}), level)
        for number, entry in enumerate(one.race.entries)
    )


def _entry(one: Told, number: int, entry: Entry, known: Mapping[str, str], level: int) -> str:
    arguments = ", ".join(map(str, entry.origin.get("arguments", [])))
    space = one.race.space(entry)
    told = [
        ("named", str(entry.origin.get("spec") or entry.origin.get("function", ""))),
        ("arguments", arguments),
        ("tuned over", "; ".join(f"{name}: {_choices(part)}" for name, part in space.items())),
        ("schedule", entry.own_schedule or ""),
        ("routing", known.get("about") or "not written down"),
    ]
    lines = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in told if text)
    source = (
        folded(f"Code of {entry.name}", code(brief(known["code"]))) if known.get("code") else ""
    )
    return (
        f'<div class="entry"><h{level}>{swatch(number)} {html.escape(entry.name)}</h{level}>'
        f"<dl>{lines}</dl>{source}</div>"
    )


def _choices(part: Range | Sequence[Any]) -> str:
    if isinstance(part, Range):
        return str(part)
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in part)


def _curves(one: Told, place: str) -> str:
    race = one.race
    names = [entry.name for entry in race.entries]
    shown = [curves(race, one.records, "validation"), curves(race, one.records, "training")]
    figures = "".join(_curve_figure(f"{place}-{each.kind}", each, names) for each in shown)
    content = {"names": names, "curves": [as_json(each) for each in shown]}
    return (
        f'<div class="curves" id="{place}-plots">{_controls(place, names, shown[0])}'
        f'<div class="pair">{figures}</div><div class="readout" aria-live="polite"></div>'
        f"{data(content)}</div>"
    )


def _curve_figure(name: str, shown: Curves, names: Sequence[str]) -> str:
    said = of_curves(names, shown)
    title = f"{shown.kind.capitalize()} loss"
    note = "mean over the reported seeds, band from the lowest to the highest"
    target = "" if shown.target is None else f"; dotted: target {shown.target:g}"
    heads = ["step", *(names[line.entry] for line in shown.lines)]
    longest = max((line.x["steps"] for line in shown.lines), key=len, default=[])
    lines = [
        [f"{step:g}", *(_at(line.middle, n) for line in shown.lines)]
        for n, step in enumerate(longest)
    ]
    return (
        f'<figure><div class="plot" tabindex="0" role="group" '
        f'aria-label="{title}, arrow keys read values">'
        f"{line_chart(name, shown, title, said)}</div>"
        f"<figcaption>{title}: {note}{target}.</figcaption>"
        + folded(f"{title} in numbers", table(heads, lines, f"{title}, mean over the seeds"))
        + "</figure>"
    )


def _at(values: Sequence[float | None], n: int) -> str:
    value = values[n] if n < len(values) else None
    return "" if value is None else in_digits(value)


def _controls(place: str, names: Sequence[str], shown: Curves) -> str:
    legend = "".join(
        f'<label><input class="live" type="checkbox" name="entry" value="{n}" checked> '
        f"{swatch(n)} {html.escape(name)}</label>"
        for n, name in enumerate(names)
    )
    across = _radios(f"{place}-x", "Against", [(axis, axis) for axis in AXES], "steps")
    scales = [("linear", "linear"), ("logarithmic", "logarithmic")]
    chosen = "logarithmic" if shown.logarithmic else "linear"
    return (
        f'<form class="controls"><fieldset><legend>Entries</legend>{legend}</fieldset>'
        f'<div class="live">{across}{_radios(f"{place}-y", "Losses", scales, chosen)}'
        '<fieldset><legend>Curves</legend><label>smooth <input type="range" name="smooth" '
        'min="0" max="0.95" step="0.05" value="0"></label> '
        '<button type="button" name="whole">whole range</button></fieldset></div>'
        '<p class="live faint">Drag across a figure, or press + and -, to look closer; '
        "the arrow keys move the cursor.</p></form>"
    )


def _radios(name: str, title: str, choices: Sequence[tuple[str, str]], chosen: str) -> str:
    buttons = "".join(
        f'<label><input type="radio" name="{name}" value="{value}"'
        f"{' checked' if value == chosen else ''}> {text}</label>"
        for value, text in choices
    )
    return f"<fieldset><legend>{title}</legend>{buttons}</fieldset>"


def _settings(one: Told, place: str) -> str:
    names = [entry.name for entry in one.race.entries]
    figures = []
    for number, shown in enumerate(sensitivities(one.race, one.records)):
        title = f"Loss in tuning against {name_of(shown.setting)}"
        drawn = points_chart(f"{place}-setting-{number}", shown, title, of_trials(names, shown))
        figures.append(
            f"<figure>{drawn}<figcaption>{html.escape(title)}: every trial; in a ring the chosen "
            "one; crosses on the upper edge diverged.</figcaption></figure>"
        )
    return f'<div class="pair">{"".join(figures)}</div>' if figures else ""


def _cost(one: Told, place: str) -> str:
    names = [entry.name for entry in one.race.entries]
    shown = costs(one.race, one.records)
    drawn = bars_chart(f"{place}-cost-bars", shown, names, "Cost of a step", of_costs(names, shown))
    heads = ["entry", "step", "passes through the model", "update"]
    lines = [
        [names[c.entry], duration(c.model + c.update), duration(c.model), duration(c.update)]
        for c in shown
    ]
    return (
        f'<div class="pair"><figure>{drawn}<figcaption>Full: the passes through the model; '
        "outlined: the update, timed by itself. Medians over the runs.</figcaption></figure>"
        + table(heads, lines, "Time of a step and its parts")
        + "</div>"
    )


def _runs(one: Told) -> str:
    heads = ["entry", "settings", "seed", "outcome", f"steps to {one.race.task.target:g}", "time"]
    count = len(one.records)
    title = f"{count:,} run{'s' * (count != 1)}"
    return folded(title, table(heads, map(_run, one.records), title))


def _run(record: Record) -> list[str]:
    return [
        record.entry,
        written(record.settings),
        str(record.seed) if record.seed >= 0 else f"tuning {-record.seed}",
        record.outcome(),
        "not reached" if record.steps_to_target is None else str(record.steps_to_target),
        duration(record.timing["run"]),
    ]


def _protocol(one: Told) -> str:
    about = one.about
    started = f"<p>Started {html.escape(about['started'])} with</p>" if "started" in about else ""
    command = code(about["command"]) if "command" in about else ""
    report = f"gradsmith report {one.path.name}"
    versions = [[name, text] for name, text in one.versions.items() if text]
    return (
        f"{started}{command}<p>This page: <code>{html.escape(report)}</code></p>"
        + folded("Configuration", code(json.dumps(one.records[0].config, indent=2)))
        + folded("Versions and machine", table(["what", "version"], versions, "What computed"))
    )
