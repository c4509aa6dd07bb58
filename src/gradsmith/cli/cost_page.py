"""`gradsmith cost --html`: what one update costs each device, as bars."""

import html
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.filesize import decimal

from ..observe.description import Description
from ..observe.update_cost import UpdateCost, in_gflop, why_bounds
from ..race.page.document import document
from ..race.page.markup import items, table
from ..race.page.svg import WIDTH, figure, number, scale
from ..sites.shards import mesh_in_words
from ..xla.program.collectives import in_words
from ..xla.program.cycles import Cycles

HIGH = 36  # of a bar with its words


class Bar(NamedTuple):
    """A bar: whose colour it has, what it is of, how long, in words, and where a mark stands."""

    hue: int
    name: str
    value: float
    words: str
    mark: float = 0.0


def cost_page(costs: Mapping[str, UpdateCost], model: str, description: Description) -> str:
    """The whole page.

    Args:
        costs: Of each optimizer, the one that was asked for first.
        model: As it was typed.
        description: Of the first one, for its buckets.
    """
    names, first = list(costs), next(iter(costs.values()))
    mesh = mesh_in_words(first.mesh) or "one device"
    by_bucket = [
        *_by_bucket(names[0], first),
        _figure("buckets", f"State of {names[0]} by bucket", _kept(description), "all devices"),
    ]
    figures = [
        _figure(
            "flops", "Flops of matrix products", _flops(costs), "mark: those of one device, divided"
        ),
        _figure(
            "received",
            "Bytes received",
            _received(costs),
            "mark: each matrix once to one device, and its update once back",
        ),
        _figure("temporaries", "Temporaries", _bytes(costs, "temporaries"), ""),
        _figure("state", "State", _bytes(costs, "state"), ""),
    ]
    if first.cycles is not None:
        figures.insert(0, _figure("cycles", "Cycles that the compiler expects", _cycles(costs), ""))
    said = f"One update of {model}, for each device of {mesh}; parameters {decimal(first.params)}."
    body = (
        f'<p class="lead">{html.escape(said)}</p>'
        f'<div class="pair">{"".join(figures)}</div>'
        + items(filter(None, [why_bounds(list(costs.values()))]))
        + _numbers(costs)
        + f"<h2>By bucket</h2><p>{html.escape(_what_buckets_are(names[0], first))}</p>"
        + f'<div class="pair">{"".join(by_bucket)}</div>'
    )
    return document(f"Cost of {names[0]} on {model}", body, "gradsmith cost --html", len(names))


def _flops(costs: Mapping[str, UpdateCost]) -> list[Bar]:
    return [
        Bar(n, name, cost.flops, in_gflop(cost) + " Gflop", cost.flops_bound)
        for n, (name, cost) in enumerate(costs.items())
    ]


def _received(costs: Mapping[str, UpdateCost]) -> list[Bar]:
    bound = next(iter(costs.values())).received_bound
    bars = []
    for n, (name, cost) in enumerate(costs.items()):
        for one in cost.collectives:
            words = f"{decimal(round(one.received))} in {one.count}"
            bars.append(Bar(n, f"{name}, {one.kind}", one.received, words, bound))
        if not cost.collectives:
            bars.append(Bar(n, f"{name}, no collective", 0.0, "nothing"))
    return bars


def _bytes(costs: Mapping[str, UpdateCost], field: str) -> list[Bar]:
    return [
        Bar(n, name, getattr(cost, field), decimal(getattr(cost, field)))
        for n, (name, cost) in enumerate(costs.items())
    ]


def _cycles(costs: Mapping[str, UpdateCost]) -> list[Bar]:
    known = [(n, name, cost.cycles or Cycles()) for n, (name, cost) in enumerate(costs.items())]
    return [
        Bar(
            n,
            name,
            one.all,
            f"{'' if one.exact else '>= '}{one.all / 1e6:.3g} million, "
            f"{one.products / max(1, one.all):.0%} with products",
        )
        for n, name, one in known
    ]


def _what_buckets_are(name: str, cost: UpdateCost) -> str:
    if not any(one.name for one in cost.buckets):
        return (
            f"No operation of the compiled program of {name} tells a bucket, so flops and bytes "
            "received are not known by bucket."
        )
    return (
        f"Matrices of {name} that are computed together: 12x768x3072 are twelve. Each "
        "operation of the compiled program tells its bucket. With a + between them stands what "
        "several have in common, because they go through one rule. A collective that XLA has made "
        "of several tells one bucket only, and a product that it has rewritten may tell none."
    )


def _by_bucket(name: str, cost: UpdateCost) -> list[str]:
    """The figures of flops and bytes; none where no operation tells a bucket."""
    if not any(one.name for one in cost.buckets):
        return []
    flops = [
        Bar(0, _in_words(one.name), one.flops, f"{one.flops / 1e9:.4g} Gflop")
        for one in cost.buckets
        if one.flops
    ]
    moved = [
        Bar(
            0,
            _in_words(one.name),
            one.received,
            f"{decimal(round(one.received))} in {in_words(one.collectives)}",
        )
        for one in cost.buckets
        if one.collectives
    ]
    none, nothing = ([Bar(0, f"no {what}", 0.0, "nothing")] for what in ("product", "collective"))
    return [
        _figure("bucket-flops", f"Flops of {name} by bucket", flops or none, ""),
        _figure("bucket-received", f"Bytes {name} receives by bucket", moved or nothing, ""),
    ]


def _in_words(buckets: str) -> str:
    if not buckets:
        return "no bucket told"
    return " + ".join(buckets.split("+"))


def _kept(description: Description) -> list[Bar]:
    kept: dict[str, int] = {}
    for leaf in description.leaves:
        name = ", ".join(leaf.buckets) or f"no bucket, {leaf.optimizer}"
        kept[name] = kept.get(name, 0) + leaf.state_bytes
    return [Bar(0, name, size, decimal(size)) for name, size in kept.items()]


def _figure(name: str, title: str, bars: Sequence[Bar], note: str) -> str:
    longest = max(max(bar.value, bar.mark) for bar in bars) or 1.0
    x = scale((0.0, longest), 4, WIDTH - 8)
    drawn = [_bar(bar, HIGH * place, x) for place, bar in enumerate(bars)]
    words = f"{title}. " + " ".join(f"{bar.name}: {bar.words}." for bar in bars)
    told = note if any(bar.mark for bar in bars) or not note.startswith("mark") else ""
    caption = f"{title} ({told})" if told else title
    chart = figure(name, "".join(drawn), title, words, HIGH * len(bars))
    return f'<figure class="inside">{chart}<figcaption>{html.escape(caption)}</figcaption></figure>'


def _bar(bar: Bar, top: int, x) -> str:
    mark = f'<path class="ring" d="M{number(x(bar.mark))} {top + 14}v17"/>' if bar.mark else ""
    return (
        f'<g class="e{bar.hue}"><text x="4" y="{top + 11}">{html.escape(bar.name)}</text>'
        f'<text class="tick" x="{WIDTH - 8}" y="{top + 11}" text-anchor="end">'
        f'{html.escape(bar.words)}</text><rect class="model" x="4" y="{top + 16}" '
        f'width="{number(x(bar.value) - 4)}" height="13"/>{mark}</g>'
    )


def _numbers(costs: Mapping[str, UpdateCost]) -> str:
    bytes_ = next(iter(costs.values())).received_bound
    bound = decimal(round(bytes_)) if bytes_ else "-"
    heads = ["optimizer", "Gflop", "ideal", "received", "bound", "temporaries", "state"]
    lines = [
        [
            name,
            in_gflop(cost),
            f"{cost.flops_bound / 1e9:.4g}" if cost.flops_bound else "-",
            decimal(round(cost.received)),
            bound,
            decimal(cost.temporaries),
            decimal(cost.state),
            in_words(cost.collectives) or "none",
        ]
        for name, cost in costs.items()
    ]
    return table([*heads, "collectives"], lines, "What one update costs each device")
