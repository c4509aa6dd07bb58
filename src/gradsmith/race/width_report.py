"""What several widths show, as a table and a picture: sizes on one side, losses on the other."""

import io
import math

from rich.table import Table as RichTable
from rich.text import Text

from .records import in_digits
from .widths import LEVEL, Sizes, Widths, depending


def sizes_table(title: str, found: tuple[Sizes, ...], widths: tuple[int, ...]) -> RichTable:
    """The sizes by width, and the power of the width that each goes with.

    Args:
        title: Of the table.
        found: Updates or activations.
        widths: Ascending.
    """
    out = _table(title, ["of", *map(str, widths), "power"])
    for one in found:
        power = one.power(widths)
        mark = " *" if abs(power) > LEVEL else ""
        known = "" if math.isnan(power) else f"{power:+.2f}{mark}"
        out.add_row(*map(Text, [one.name, *(f"{size:.2g}" for size in one.sizes), known]))
    return out


def losses_table(found: Widths) -> RichTable:
    """The final losses by learning rate and width; the lowest of each width is marked."""
    out = _table("Final loss by learning rate", ["rate", *map(str, found.widths)])
    best = found.best()
    for rate, losses in found.losses.items():
        cells = [
            ("diverged" if math.isinf(loss) else in_digits(loss)) + (" <" if rate == own else "")
            for loss, own in zip(losses, best, strict=True)
        ]
        out.add_row(*map(Text, [f"{rate:g}", *cells]))
    return out


def width_notes(found: Widths) -> list[str]:
    """What the tables say, and what they do not."""
    said = []
    for what, sizes in (("updates", found.updates), ("activations", found.activations)):
        named = depending(sizes, found.widths)
        said.append(
            f"coordinate check, {what}: "
            + (
                f"* {len(named)} of {len(sizes)} go with the width by a power beyond {LEVEL}"
                if named
                else f"none of {len(sizes)} goes with the width by a power beyond {LEVEL}"
            )
        )
    best = found.best()
    if len(set(best)) == 1:
        said.append(f"transfer: every width ends lowest at {best[0]:g} (<), on this grid of rates")
    else:
        pairs = ", ".join(f"{w} at {r:g}" for w, r in zip(found.widths, best, strict=True))
        said.append(f"transfer: the best learning rate (<) moves with the width: {pairs}")
    edges = [w for w, r in zip(found.widths, best, strict=True) if r in _ends(found)]
    if edges:
        said.append(
            f"at width {' and '.join(map(str, edges))} the best rate is the lowest or the highest "
            "that was tried: a better one may lie outside"
        )
    return [
        *said,
        "A coordinate check that is passed does not imply that the learning rate carries over; the "
        "transfer curve shows it for these widths, this length and this task.",
    ]


def widths_png(found: Widths) -> bytes:
    """Sizes over widths on the left, final losses over learning rates on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    sizes, losses = figure.subplots(1, 2)
    for group, colour in ((found.updates, "#4477AA"), (found.activations, "#EE6677")):
        label = "updates" if group is found.updates else "activations"
        for number, one in enumerate(group):
            label_once = label if number == 0 else None
            sizes.plot(found.widths, one.sizes, color=colour, alpha=0.6, label=label_once)
    sizes.set(
        title=f"Coordinate check at rate {found.rate:g}",
        xlabel="width",
        ylabel="root mean square of the change",
        xscale="log",
        yscale="log",
        xticks=found.widths,
        xticklabels=found.widths,
    )
    sizes.minorticks_off()
    for place, width in enumerate(found.widths):
        finite = {r: own[place] for r, own in found.losses.items() if math.isfinite(own[place])}
        losses.plot(finite.keys(), finite.values(), marker="o", label=f"width {width}")
    losses.set(title="Transfer", xlabel="learning rate", ylabel="final loss", xscale="log")
    for axes in (sizes, losses):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend()
    figure.suptitle(f"{found.entry} on {found.task} by width")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    return image.getvalue()


def _table(title: str, headings: list[str]) -> RichTable:
    out = RichTable(title=title, title_justify="left")
    for number, heading in enumerate(headings):
        out.add_column(heading, justify="right" if number else "left")
    return out


def _ends(found: Widths) -> tuple[float, float]:
    return min(found.losses), max(found.losses)
