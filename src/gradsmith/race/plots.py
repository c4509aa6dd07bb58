"""The curves of a race as an image."""

import io

from .protocol import Race
from .records import Record
from .series import Series, curves, sweeps, window


def curves_png(race: Race, records: list[Record]) -> bytes:
    """Two plots side by side: losses along the runs, and final losses over the learning rates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    along, over = figure.subplots(1, 2, width_ratios=(3, 2))
    shown = curves(race, records)
    _draw(along, shown)
    along.set_ylim(*window(shown))
    along.axhline(race.task.target, color="0.5", linewidth=1, linestyle=":")
    along.set(
        title="At the best trial, every reported seed", xlabel="step", ylabel="validation loss"
    )
    shown = sweeps(race, records)
    _draw(over, shown, marker="o")
    over.set(
        title="At the end, in tuning",
        xlabel="learning rate",
        ylabel="validation loss",
        xscale="log",
    )
    figure.legend(*over.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(f"Race on {race.task.name} (dotted: target {race.task.target:g})")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    return image.getvalue()


def _draw(axes, shown: list[Series], **style) -> None:
    for series in shown:
        y = [float("nan") if value is None else value for value in series.y]
        axes.plot(series.x, y, color=series.colour, label=series.entry, linewidth=1.5, **style)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
