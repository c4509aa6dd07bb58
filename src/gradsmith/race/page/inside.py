"""Heat maps of what was read inside the optimizers: a layer a row, a step a column."""

import html
import math
import statistics
from collections.abc import Container, Mapping

from ..protocol import best_trial
from ..readings import SPECTRUM, Reading, read_readings
from ..records import duration, in_digits
from ..series import finite
from ..shades import Shades, shades
from ..told import Told
from .heat import DIVERGING, SEQUENCE, Map, heat_maps
from .markup import folded, items, table
from .meanings import meaning

Layers = dict[str, Reading]
FIRST = ("update_ratio", "effective_rate")  # what tells most stands first
FAR = 6.0  # times the median distance from the median: a layer that is told by its name
CLEAR = 0.1  # of the median at least; less is no fault that one looks for
NOTHING = 1e-4  # of what another entry has


def inside(one: Told, place: str) -> str:
    """Each reading of each entry, and the difference of the first two entries; or nothing."""
    runs = shown_runs(one)
    found = read_readings(one.path, runs)
    names = [entry.name for entry in one.race.entries]
    parts, flat, named = [], [], {}
    for number, reading in enumerate(sorted(found, key=lambda reading: _place(reading, found))):
        own = {name: found[reading][name] for name in names if name in found[reading]}
        values = {
            v for layers in own.values() for one in layers.values() for v in finite(one.value)
        }
        if len(values) == 1:
            flat.append(f"{_title(reading)} {_digits(values.pop())}")
        elif values and not _is_told_by_another(reading, found):
            parts.append(_reading(f"{place}-inside-{number}", reading, own, named))
    if not parts:
        return ""
    told = ", ".join(f"{name}: {_run(*runs[name])}" for name in names if name in runs)
    alike = f" The same at all times in all layers: {', '.join(flat)}." if flat else ""
    said = f"One run of each entry: {told}.{_taken(one, runs)}{alike}"
    return f'<p class="faint">{html.escape(said)}</p>' + "".join(parts)


def _place(reading: str, found: Mapping[str, Mapping[str, Layers]]) -> tuple[int, str]:
    """Those that tell most stand first, and then those that an entry has nothing of."""
    if reading in FIRST:
        return FIRST.index(reading), ""
    return len(FIRST) + (not nearly_zero(found[reading])), reading


def _is_told_by_another(reading: str, found: Container[str]) -> bool:
    """Whether it is the largest of a spectrum, or a root mean square times a constant."""
    stem = reading.removesuffix("_spectral_norm")
    if stem != reading:
        return f"{stem}_{SPECTRUM}" in found
    return reading.endswith("_norm") and f"{reading.removesuffix('_norm')}_rms" in found


def _taken(one: Told, runs: Mapping[str, tuple[int, int]]) -> str:
    """What looking inside these runs took; empty where nobody has written it down."""
    shown = [r.timing for r in one.records if runs.get(r.entry) == (r.trial, r.seed)]
    looking = [timing["watch"] for timing in shown if "watch" in timing]
    if not looking:
        return ""
    running = sum(timing["run"] for timing in shown)
    return (
        f" To look inside took {duration(sum(looking))}, beside {duration(running)} of running; it "
        "is part of no other time on this page."
    )


def shown_runs(one: Told) -> dict[str, tuple[int, int]]:
    """The run that is shown of each entry: its first reported one, else its best in tuning."""
    runs = {}
    for entry in one.race.entries:
        own = [record for record in one.records if record.entry == entry.name]
        best = best_trial(one.race, own, entry.name)
        reported = sorted((r.seed, r.trial) for r in own if r.seed >= 0)
        if reported:
            runs[entry.name] = reported[0][::-1]
        elif best is not None:
            runs[entry.name] = (best, -1)
    return runs


def _run(trial: int, seed: int) -> str:
    return f"trial {trial}, " + (f"seed {seed}" if seed >= 0 else f"tuning seed {-seed}")


def _reading(place: str, reading: str, own: dict[str, Layers], named: dict[str, str]) -> str:
    title = _title(reading)
    values = [v for layers in own.values() for one in layers.values() for v in finite(one.value)]
    common = shades(values)
    logarithmic = common.even_to == 0
    maps = [Map(name, layers, common, SEQUENCE) for name, layers in own.items()]
    coloured = [common.in_words()]
    axis = "number" if SPECTRUM in reading else "step"
    silent = nearly_zero(own)
    said = [f"{name}: nearly 0 in all layers, where others have {most}" for name, most in silent]
    said += [
        sentence
        for name, layers in own.items()
        if name not in dict(silent)
        for sentence in odd_layers(name, layers)
    ]
    if len(own) > 1:
        (one, first), (other, second) = list(own.items())[:2]
        apart = difference(first, second, logarithmic)
        values = [abs(v) for layer in apart.values() for v in finite(layer.value)]
        if values and max(values) > 0:
            both = shades([*values, *(-v for v in values)])
            if logarithmic:  # what stands out of ratios is what one looks for
                both = Shades(both.low, both.high)
            sign = "the log10 of their ratio" if logarithmic else "their difference"
            maps.append(Map(f"{one} - {other}", apart, both, DIVERGING))
            coloured.append(both.in_words().replace("colours", "those of the difference"))
            at, layer = _parting(apart, max(values))
            said.append(
                f"{one} and {other} part first in {layer}, at {axis} {at}; {sign} comes to "
                f"{_digits(max(values))}"
            )
    told = ", ".join(filter(None, coloured))
    caption = f"{title} ({told})" if told else title
    words = " ".join([f"{caption}, a layer a row.", *map(_range, maps)])
    layers = list(dict.fromkeys(layer for of_entry in own.values() for layer in of_entry))
    about = f'<p class="faint">{html.escape(meaning(reading))}</p>' if meaning(reading) else ""
    numbers = table(
        ["layer", *own],
        [[layer, *(_last(of_entry.get(layer)) for of_entry in own.values())] for layer in layers],
        f"{title}, the last {'value' if axis == 'number' else 'reading'}",
    )
    return (
        f'<figure class="inside">{heat_maps(place, maps, axis, title, words, named)}'
        f"<figcaption>{html.escape(caption)}</figcaption>{about}{items(said)}"
        f"{folded(f'{title} in numbers', numbers)}</figure>"
    )


def nearly_zero(own: Mapping[str, Layers]) -> list[tuple[str, str]]:
    """The entries that have next to nothing of what others have, with the most that those have.

    Examples:
        >>> layers = lambda value: {"w": Reading([10, 20], [0.0, value])}
        >>> nearly_zero({"soap": layers(0.25), "frozen": layers(6e-8)})
        [('frozen', 'up to 0.2500')]
    """
    most = {
        name: max((abs(v) for one in layers.values() for v in finite(one.value)), default=0.0)
        for name, layers in own.items()
    }
    largest = max(most.values())
    return [
        (name, f"up to {_digits(largest)}")
        for name, value in most.items()
        if value < NOTHING * largest
    ]


def odd_layers(name: str, layers: Layers) -> list[str]:
    """A sentence on the layer that lies far from all others, as a wrong rate makes it.

    Examples:
        >>> values = {"a": -2.0, "b": -2.1, "c": -1.9, "d": -2.05, "e": -4.0}
        >>> odd_layers("muon", {layer: Reading([10], [v]) for layer, v in values.items()})
        ['muon: e is far from the other layers, at -4.000 where their median is -2.050']
    """
    middle = {
        layer: statistics.median(known)
        for layer, one in layers.items()
        if (known := finite(one.value))
    }
    if len(middle) < 4:
        return []
    median = statistics.median(middle.values())
    usual = statistics.median(abs(value - median) for value in middle.values())
    layer = max(middle, key=lambda layer: abs(middle[layer] - median))
    if abs(middle[layer] - median) <= max(FAR * usual, CLEAR * abs(median)):
        return []
    return [
        f"{name}: {layer} is far from the other layers, at {_digits(middle[layer])} where their "
        f"median is {_digits(median)}"
    ]


def difference(first: Layers, second: Layers, logarithmic: bool) -> Layers:
    """Layer by layer where both were read: first minus second, or log10 of the ratio.

    Examples:
        >>> one, other = {"w": Reading([1, 2], [10.0, 3.0])}, {"w": Reading([1], [0.1])}
        >>> difference(one, other, logarithmic=True)["w"]
        Reading(at=[1], value=[2.0])
    """
    found = {}
    for layer, one in first.items():
        if layer in second:
            there = dict(zip(second[layer].at, second[layer].value, strict=True))
            both = [
                (at, _apart(value, there[at], logarithmic))
                for at, value in zip(one.at, one.value, strict=True)
                if at in there
            ]
            found[layer] = Reading([at for at, _ in both], [value for _, value in both])
    return {layer: one for layer, one in found.items() if one.at}


def _apart(one: float | None, other: float | None, logarithmic: bool) -> float | None:
    if one is None or other is None:
        return None
    if not logarithmic:
        return one - other
    return math.log10(one / other) if one > 0 and other > 0 else None


def _parting(apart: Layers, most: float) -> tuple[int, str]:
    """When and where the difference is first half as large as it ever is."""
    return min(
        (at, layer)
        for layer, one in apart.items()
        for at, value in zip(one.at, one.value, strict=True)
        if value is not None and abs(value) >= most / 2
    )


def _range(one: Map) -> str:
    values = [(v, layer) for layer, own in one.layers.items() for v in finite(own.value)]
    if not values:
        return f"{one.name}: nothing finite."
    (low, lowest), (high, highest) = min(values), max(values)
    return f"{one.name}: from {_digits(low)} in {lowest} to {_digits(high)} in {highest}."


def _title(reading: str) -> str:
    return reading.replace("_", " ")


def _last(one: Reading | None) -> str:
    value = None if one is None else one.value[-1]
    return "" if one is None else "none" if value is None else f"{value:.3g}"


def _digits(value: float | None) -> str:
    return "none" if value is None else "0" if value == 0 else in_digits(value)
